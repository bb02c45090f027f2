"""Plans where rules hold for some users only."""

from collections.abc import Callable

from proxy.config.cache_settings import CacheRule, CacheSettings
from proxy.config.settings import RoutingSettings
from proxy.routing.plan import Plan
from proxy.routing.planner import Planner
from proxy.routing.rules import rules_of
from proxy.session.plans import PlanCache
from proxy.session.prepared import PreparedRegistry
from proxy.sql.statement import Analysis
from proxy.topology.counters import Counters
from tests.unit.routing.shop import CATALOGUE

RULES = (
    CacheRule(name="none of it", tables=("orders",), users=("audit*",), enabled=False),
    CacheRule(name="long", tables=("orders",), users=("web",), ttl=600),
    CacheRule(name="elsewhere", tables=("orders",), databases=("other",), ttl=1),
    CacheRule(name="all", tables=("orders",), databases=("sh*",), ttl=10),
)
TEXT = b"SELECT * FROM orders WHERE id = 1"


def plans() -> PlanCache:
    made: dict[tuple[str, ...], Callable[[Analysis], Plan]] = {}

    def of_user(user: str) -> Callable[[Analysis], Plan]:
        key = tuple(rule.name for rule in rules_of(RULES, "shop", user))
        if key not in made:
            cache = CacheSettings(rule=RULES)
            planner = Planner(RoutingSettings(), cache, CATALOGUE, database="shop", user=user)
            made[key] = planner.plan
        return made[key]

    return PlanCache(of_user(""), Counters(), of_user)


def rule(plan: Plan) -> str:
    return plan.cache.rule if plan.cache else plan.uncached_reason


def test_each_user_has_the_first_rule_that_holds_for_him() -> None:
    cache = plans()
    found = {
        user: rule(cache.of_user(user).of_text(TEXT, True)[0])
        for user in ("web", "app", "auditor", "web2")
    }
    assert found == {
        "web": "long",
        "app": "all",
        "auditor": "rule 'none of it' says never",
        "web2": "all",
    }
    assert cache.of_user("app") is cache.of_user("web2")


def test_a_statement_that_all_have_prepared_has_the_plan_of_who_runs_it() -> None:
    cache, prepared = plans(), PreparedRegistry().get(TEXT + b"\0\0\0")
    for user, wanted in [("web", "long"), ("app", "all"), ("web", "long"), ("app", "all")]:
        assert rule(cache.of_user(user).of_prepared(prepared, True)) == wanted
