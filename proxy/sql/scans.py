"""A parsed query's scans: every occurrence of a table, with what its columns are known to equal."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlglot import exp

from proxy.sql.equalities import Equalities, equalities_of, identifier
from proxy.sql.lexer import Token
from proxy.sql.statement import KeyValue, Scan, TableRef
from proxy.sql.values import key_value

_Names = frozenset[str]


@dataclass(slots=True)
class Found:
    """What a walk over a query's tree found."""

    scans: list[Scan] = field(default_factory=list)
    assigned: set[str] = field(default_factory=set)
    named: set[TableRef] = field(default_factory=set)
    """Every relation's name, those of CTEs too."""
    changes: int = 0
    """How many INSERT, UPDATE, DELETE and MERGE there are."""
    sampled: bool = False  # TABLESAMPLE
    commands: bool = False  # parts that the parser didn't parse


@dataclass(slots=True)
class _Walk:
    tokens: Sequence[Token]
    overriding: bool
    found: Found = field(default_factory=Found)
    known: dict[int, Equalities] = field(default_factory=dict)
    targets: set[int] = field(default_factory=set)
    pending: list[tuple[exp.Expr, _Names]] = field(default_factory=list)


def find(tree: exp.Expr, tokens: Sequence[Token], overriding: bool = False) -> Found:
    """All that `tree`, parsed from the rendering of `tokens`, touches. `overriding`: INSERT has
    OVERRIDING … VALUE, after which the values given are not always those stored."""
    walk = _Walk(tokens, overriding)
    walk.pending.append((tree, frozenset()))
    while walk.pending:
        node, names = walk.pending.pop()
        names = _with_names(walk, node, names)
        if isinstance(node, exp.Table):
            _take_table(walk, node, names)
        elif isinstance(node, exp.TableSample):
            walk.found.sampled = True
        elif isinstance(node, exp.Command):
            walk.found.commands = True
        else:
            _take_level(walk, node)
        children = (c for c in node.iter_expressions(reverse=True) if not isinstance(c, exp.With))
        walk.pending += ((child, names) for child in children)
    return walk.found


def _with_names(walk: _Walk, node: exp.Expr, names: _Names) -> _Names:
    """The CTE names that `node`'s parts see; queues the CTEs, each with the names that it sees."""
    clause = node.args.get("with_")
    if not isinstance(clause, exp.With):
        return names
    all_names = names | {identifier(_alias(cte)) for cte in clause.expressions}
    for cte in clause.expressions:
        walk.pending.append((cte.this, all_names if clause.args.get("recursive") else names))
        names = names | {identifier(_alias(cte))}
    return all_names


def _alias(cte: exp.Expr) -> exp.Expr | None:
    alias = cte.args.get("alias")
    return alias.this if isinstance(alias, exp.TableAlias) else None


def _take_table(walk: _Walk, node: exp.Table, names: _Names) -> None:
    name = identifier(node.this)
    if not name:
        return
    schema = identifier(node.args.get("db")) or None
    table = TableRef(name, schema)
    walk.found.named.add(table)
    written = id(node) in walk.targets
    if schema is None and name in names and not written:
        return
    walk.found.scans.append(Scan(table, walk.known.get(id(node), ()), written))


def _take_level(walk: _Walk, node: exp.Expr) -> None:
    """Notes what a query level, if `node` is one, says of its tables."""
    from_ = node.args.get("from_")
    items = [from_.this] if isinstance(from_, exp.From) else []
    if isinstance(node, exp.Select):
        _note(walk, items, node.args.get("joins") or (), node)
    elif isinstance(node.parent, exp.When):
        if isinstance(node, exp.Update):
            walk.found.assigned |= _assigned(node.expressions)
    elif isinstance(node, exp.Update):
        walk.found.assigned |= _assigned(node.expressions)
        _take_target(walk, node.this)
        _note(walk, [node.this, *items], (), node)
    elif isinstance(node, exp.Delete):
        _take_target(walk, node.this)
        _note(walk, [node.this, *(node.args.get("using") or ())], (), node)
    elif isinstance(node, exp.Insert):
        _take_insert(walk, node)
    elif isinstance(node, exp.Merge):
        _take_target(walk, node.this)


def _note(
    walk: _Walk,
    items: Sequence[exp.Expr],
    joins: Sequence[exp.Expr],
    node: exp.Expr,
) -> None:
    where = node.args.get("where")
    if where is not None or any(item.args.get("joins") for item in items) or joins:
        walk.known.update(equalities_of(items, joins, where, walk.tokens))


def _take_target(walk: _Walk, target: exp.Expr) -> None:
    walk.found.changes += 1
    walk.targets.add(id(target))


def _take_insert(walk: _Walk, node: exp.Insert) -> None:
    target = node.this
    columns = target.expressions if isinstance(target, exp.Schema) else []
    table = target.this if isinstance(target, exp.Schema) else target
    _take_target(walk, table)
    if isinstance(node.expression, exp.Values) and not walk.overriding:
        walk.known[id(table)] = _row_values(walk, columns, node.expression.expressions)
    conflict = node.args.get("conflict")
    if isinstance(conflict, exp.OnConflict):
        walk.found.assigned |= _assigned(conflict.expressions)


def _row_values(walk: _Walk, columns: Sequence[exp.Expr], rows: Sequence[exp.Expr]) -> Equalities:
    """For each column that gets only constants and parameters: those, over all rows."""
    if not all(isinstance(r, exp.Tuple) and len(r.expressions) == len(columns) for r in rows):
        return ()
    result = []
    for index, column in enumerate(columns):
        values: dict[KeyValue, None] = {}
        for row in rows:
            value = key_value(row.expressions[index], walk.tokens)
            if value is None:
                break
            values[value] = None
        else:
            result.append((identifier(column), tuple(values)))
    return tuple(sorted((name, values) for name, values in result if name and values))


def _assigned(assignments: Iterable[exp.Expr]) -> set[str]:
    """The columns that SET's assignments name; every name on the left-hand side, to be safe."""
    names: set[str] = set()
    for assignment in assignments:
        left = assignment.this if isinstance(assignment, exp.EQ) else assignment
        names |= {identifier(part) for part in left.find_all(exp.Identifier)}
    return names
