"""A parsed query's scans: every occurrence of a table, with what its columns are known to equal."""

from collections.abc import Callable, Iterable, Sequence
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
    OVERRIDING USER VALUE, so that identity columns don't get the values given."""
    walk = _Walk(tokens, overriding)
    pending: list[tuple[exp.Expr, _Names]] = walk.pending
    pending.append((tree, frozenset()))
    while pending:
        node, names = pending.pop()
        if node.args.get("with_"):
            names = _with_names(walk, node, names)
        if rule := _RULES.get(type(node)):
            rule(walk, node, names)
        for child in node.iter_expressions(reverse=True):
            kind = type(child)
            if kind not in _LEAVES and (kind is not exp.Column or type(child.this) not in _LEAVES):
                pending.append((child, names))
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


def _take_table(walk: _Walk, node: exp.Expr, names: _Names) -> None:
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


def _sampled(walk: _Walk, node: exp.Expr, names: _Names) -> None:
    walk.found.sampled = True


def _command(walk: _Walk, node: exp.Expr, names: _Names) -> None:
    walk.found.commands = True


def _select(walk: _Walk, node: exp.Expr, names: _Names) -> None:
    _note(walk, _from(node), node.args.get("joins") or (), node)


def _update(walk: _Walk, node: exp.Expr, names: _Names) -> None:
    walk.found.assigned |= _assigned(node.expressions)
    if not isinstance(node.parent, exp.When):  # not MERGE … WHEN MATCHED THEN UPDATE
        _take_target(walk, node.this)
        _note(walk, [node.this, *_from(node)], (), node)


def _delete(walk: _Walk, node: exp.Expr, names: _Names) -> None:
    _take_target(walk, node.this)
    _note(walk, [node.this, *(node.args.get("using") or ())], (), node)


def _merge(walk: _Walk, node: exp.Expr, names: _Names) -> None:
    _take_target(walk, node.this)


def _from(node: exp.Expr) -> list[exp.Expr]:
    clause = node.args.get("from_")
    return [clause.this] if isinstance(clause, exp.From) else []


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


def _insert(walk: _Walk, node: exp.Expr, names: _Names) -> None:
    if isinstance(node.parent, exp.When):  # MERGE … WHEN NOT MATCHED THEN INSERT
        return
    target = node.this
    columns = target.expressions if isinstance(target, exp.Schema) else []
    table = target.this if isinstance(target, exp.Schema) else target
    _take_target(walk, table)
    values = node.args.get("expression")
    if isinstance(values, exp.Values) and not walk.overriding:
        walk.known[id(table)] = _row_values(walk, columns, values.expressions)
    conflict = node.args.get("conflict")
    if isinstance(conflict, exp.OnConflict):
        walk.found.assigned |= _assigned(conflict.expressions)


def _row_values(walk: _Walk, columns: Sequence[exp.Expr], rows: Sequence[exp.Expr]) -> Equalities:
    """For each column that gets only constants and parameters: those, over all rows."""
    if not all(isinstance(r, exp.Tuple) and len(r.expressions) == len(columns) for r in rows):
        return ()
    names = [identifier(column) for column in columns]
    result = []
    for index, name in enumerate(names):
        if not name or names.count(name) > 1:  # parts of one column are given: a[1], a[2]
            continue
        values: dict[KeyValue, None] = {}
        for row in rows:
            value = key_value(row.expressions[index], walk.tokens)
            if value is None:
                break
            values[value] = None
        else:
            result.append((name, tuple(values)))
    return tuple(sorted((name, values) for name, values in result if values))


def _assigned(assignments: Iterable[exp.Expr]) -> set[str]:
    """The columns that SET's assignments name; every name on the left-hand side, to be safe."""
    names: set[str] = set()
    for assignment in assignments:
        left = assignment.this if isinstance(assignment, exp.EQ) else assignment
        names |= {identifier(part) for part in left.find_all(exp.Identifier)}
    return names


_RULES: dict[type[exp.Expr], Callable[[_Walk, exp.Expr, _Names], None]] = {
    exp.Table: _take_table,
    exp.Select: _select,
    exp.Insert: _insert,
    exp.Update: _update,
    exp.Delete: _delete,
    exp.Merge: _merge,
    exp.TableSample: _sampled,
    exp.Command: _command,
}
# Nothing of interest is in these; WITH is taken in by the node that it belongs to.
_LEAVES: frozenset[type[exp.Expr]] = frozenset(
    {exp.Identifier, exp.Literal, exp.Star, exp.Var, exp.Null, exp.Boolean, exp.With}
)
