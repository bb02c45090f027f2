"""What WHERE and ON say that columns of a query level's tables equal.

Every equality that must hold for a row to matter links two columns, or a column and constants;
linked columns share their constants. An outer join's ON restricts only its nullable side, so
constants flow through it one way. A column without a qualifier belongs to whichever visible table
has a column of that name: PostgreSQL refuses the text where several have it, so what is claimed of
the others says nothing wrong.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sqlglot import exp

from proxy.sql.lexer import Token, cut, fold
from proxy.sql.statement import KeyValue, Literal
from proxy.sql.values import key_value

Equalities = tuple[tuple[str, tuple[KeyValue, ...]], ...]
_Node = tuple[int, str]
"""(number of the source, column)."""


@dataclass(frozen=True, slots=True)
class _Source:
    """An item of FROM: `node` is what `equalities_of` names it by."""

    node: exp.Expr
    alias: str
    schema: str
    opaque: bool  # its columns are renamed: nothing is claimed of it


@dataclass(slots=True)
class _Level:
    tokens: Sequence[Token]
    sources: list[_Source] = field(default_factory=list)
    links: dict[_Node, _Node] = field(default_factory=dict)
    constants: list[tuple[_Node, tuple[KeyValue, ...]]] = field(default_factory=list)
    one_way: list[tuple[frozenset[int], exp.Expr]] = field(default_factory=list)
    scopes: int = 0
    merges: bool = False
    """An outer join has merged columns of both its sides: USING, NATURAL. Then a column without a
    qualifier may be one of either side, or both, so that nothing is concluded from it."""

    def root(self, node: _Node) -> _Node:
        while (parent := self.links.setdefault(node, node)) != node:
            self.links[node] = node = self.links[parent]
        return node

    def link(self, one: _Node, other: _Node) -> None:
        self.links[self.root(one)] = self.root(other)


def identifier(node: exp.Expr | None) -> str:
    """The name that an identifier stands for; "" for anything else."""
    if not isinstance(node, exp.Identifier):
        return ""
    name: str = node.this
    return cut(name if node.args.get("quoted") else fold(name))


def equalities_of(
    items: Sequence[exp.Expr],
    joins: Sequence[exp.Expr],
    where: exp.Expr | None,
    tokens: Sequence[Token],
) -> dict[int, Equalities]:
    """By id() of each table node among FROM's `items` and `joins`: what its columns equal."""
    level = _Level(tokens)
    visible: list[int] = []
    for item in items:
        visible += _add(level, item)
    visible = _join_all(level, visible, joins)
    names = [source.alias for source in level.sources if source.alias]
    if len(set(names)) != len(names):
        return {}
    if where is not None:
        _restrict(level, visible, where.this)
    return _resolve(level)


def _add(level: _Level, item: exp.Expr) -> list[int]:
    """Takes in one item of FROM with the joins inside it; the numbers of the sources visible."""
    alias = item.args.get("alias")
    inner = item.this if isinstance(item, exp.Subquery) else None
    if isinstance(inner, exp.Table) and alias is None:  # (a JOIN b ON …)
        visible = _add(level, inner)
    else:
        named = isinstance(alias, exp.TableAlias) and alias.this is not None
        name = identifier(alias.this) if named and alias is not None else identifier(item.this)
        schema = "" if named else identifier(item.args.get("db"))
        renamed = isinstance(alias, exp.TableAlias) and bool(alias.args.get("columns"))
        opaque = renamed or not isinstance(item, exp.Table)
        level.sources.append(_Source(item, name, schema, opaque))
        visible = [len(level.sources) - 1]
    if isinstance(item, exp.Table | exp.Subquery):
        visible = _join_all(level, visible, item.args.get("joins") or ())
    return visible


def _join_all(level: _Level, first: list[int], joins: Sequence[exp.Expr]) -> list[int]:
    """Takes in joins after the sources `first`; all that are then visible to WHERE."""
    before: list[int] = []
    visible = first
    for join in joins:
        right = _add(level, join.this)
        if _is_comma(join):  # a condition after it doesn't see what stands before it
            before, visible = before + visible, right
        else:
            visible = visible + right
            _condition(level, join, visible, right)
    return before + visible


def _is_comma(join: exp.Expr) -> bool:
    return not any(join.args.get(part) for part in ("side", "kind", "method", "on", "using"))


def _condition(level: _Level, join: exp.Expr, visible: list[int], right: Sequence[int]) -> None:
    side, kind = (str(join.args.get(part) or "").upper() for part in ("side", "kind"))
    condition, using = join.args.get("on"), join.args.get("using")
    if side and (using or join.args.get("method")):
        level.merges = True
    if join.args.get("method"):
        return
    if side == "LEFT" and kind in ("", "OUTER") and condition is not None:
        level.one_way.append((frozenset(right), condition))
    elif not side and kind in ("", "INNER", "CROSS"):
        if condition is not None:
            _restrict(level, visible, condition)
        for column in () if level.merges else using or ():
            _merge(level, visible, identifier(column) or identifier(column.this))


def _merge(level: _Level, sources: Sequence[int], column: str) -> None:
    """JOIN … USING (column)."""
    for source in sources[1:]:
        if column:
            level.link((sources[0], column), (source, column))


def _restrict(level: _Level, visible: Sequence[int], condition: exp.Expr) -> None:
    """Notes the equalities that `condition`, which every row that matters fulfils, implies."""
    level.scopes -= 1
    for left, right in _equal_pairs(condition):
        one, other = _column(level, visible, left), _column(level, visible, right)
        if one is not None and other is not None:
            level.link(one, other)
        elif (node := one or other) and (values := _values(right if one else left, level.tokens)):
            level.constants.append((node, values))


def _equal_pairs(
    condition: exp.Expr,
) -> Iterator[tuple[exp.Expr, exp.Expr]]:
    """The two sides of each equality among the conjuncts; IN lists as their right-hand side."""
    pending = [condition]
    while pending:
        node = pending.pop()
        if isinstance(node, exp.And):
            pending += (node.expression, node.this)
        elif isinstance(node, exp.Paren):
            pending.append(node.this)
        elif isinstance(node, exp.In) and not node.args.get("query"):
            yield node.this, node
        elif isinstance(node, exp.EQ):
            rows = (node.this, node.expression)
            if all(isinstance(row, exp.Tuple) for row in rows):
                if len(rows[0].expressions) == len(rows[1].expressions):
                    yield from zip(rows[0].expressions, rows[1].expressions, strict=True)
            else:
                yield rows


def _values(node: exp.Expr, tokens: Sequence[Token]) -> tuple[KeyValue, ...]:
    """The constants on one side of an equality; () if any of them is none. NULL equals nothing."""
    members: Sequence[exp.Expr] = [node]
    if isinstance(node, exp.In):
        members = node.expressions
    elif isinstance(node, exp.Any):
        array = node.this
        while isinstance(array, exp.Paren):
            array = array.this
        members = array.expressions if isinstance(array, exp.Array) else []
    values = [key_value(member, tokens) for member in members]
    if any(value is None for value in values):
        return ()
    known = [v for v in values if v is not None and not (isinstance(v, Literal) and v.text is None)]
    return tuple(dict.fromkeys(known))


def _column(level: _Level, visible: Sequence[int], node: exp.Expr) -> _Node | None:
    while isinstance(node, exp.Paren):
        node = node.this
    if not isinstance(node, exp.Column) or not (name := identifier(node.this)):
        return None
    table, schema = identifier(node.args.get("table")), identifier(node.args.get("db"))
    if node.args.get("catalog"):
        return None
    if not table and level.merges:
        return None
    if not table:
        for source in visible:
            level.link((source, name), (level.scopes, name))
        return (level.scopes, name)
    for source in visible:
        known = level.sources[source]
        if known.alias == table and (not schema or known.schema == schema):
            return (source, name)
    return None


def _resolve(level: _Level) -> dict[int, Equalities]:
    """Hands every class of linked columns its shortest list of constants."""
    shortest: dict[_Node, tuple[KeyValue, ...]] = {}
    for node, values in level.constants:
        _keep_shortest(shortest, level.root(node), values)
    nodes = {*level.links, *(node for node, _ in level.constants)}
    found = {node: known for node in nodes if (known := shortest.get(level.root(node)))}
    for right, condition in level.one_way:
        _flow(level, right, condition, found)
    result: dict[int, dict[str, tuple[KeyValue, ...]]] = {}
    for (source, column), values in found.items():
        if source >= 0 and not level.sources[source].opaque:
            result.setdefault(id(level.sources[source].node), {})[column] = values
    return {
        node: tuple(sorted(columns.items(), key=_by_column)) for node, columns in result.items()
    }


def _by_column(item: tuple[str, tuple[KeyValue, ...]]) -> str:
    return item[0]


def _keep_shortest(
    found: dict[_Node, tuple[KeyValue, ...]], node: _Node, values: tuple[KeyValue, ...]
) -> None:
    if node not in found or len(values) < len(found[node]):
        found[node] = values


def _flow(
    level: _Level,
    right: frozenset[int],
    condition: exp.Expr,
    found: dict[_Node, tuple[KeyValue, ...]],
) -> None:
    """What LEFT JOIN … ON `condition` says of the right side's columns, given what is `found`."""
    every = range(len(level.sources))
    for pair in _equal_pairs(condition):
        for here, there in (pair, pair[::-1]):
            if not isinstance(here, exp.Column) or not here.args.get("table"):
                continue
            node = _column(level, every, here)
            if node is None or node[0] not in right:
                continue
            qualified = isinstance(there, exp.Column) and there.args.get("table")
            source = _column(level, every, there) if qualified else None
            known = found.get(source, ()) if source else _values(there, level.tokens)
            if known:
                _keep_shortest(found, node, known)
