"""The reference page: up to date, whole, and its examples load."""

import tomllib
from pathlib import Path

import pytest

from proxy.config.load import load
from proxy.config.reference import examples, headings, page
from proxy.config.schema import fields_of, shape_of_field
from proxy.config.section import Section
from proxy.config.settings import Settings

ROOT = Path(__file__).parents[3]


def test_the_committed_page_is_up_to_date() -> None:
    committed = (ROOT / "docs" / "configuration.md").read_text()
    assert committed == page(), "run: penstock config reference > docs/configuration.md"


def test_every_section_is_on_the_page_with_an_example() -> None:
    assert ["", *headings()] == list(examples())


def test_every_setting_has_a_description_and_words_for_its_type() -> None:
    pending: list[type[Section]] = [Settings]
    while pending:
        for key, info in fields_of(model := pending.pop()).items():
            assert info.description, f"{model.__name__}.{key}"
            shape = shape_of_field(info)
            below = shape.model or (shape.item and shape.item.model)
            pending += [below] if below else []


@pytest.mark.parametrize("heading", examples())
def test_an_example_sets_keys_of_its_section(heading: str) -> None:
    table = tomllib.loads(examples()[heading])
    for key in heading.split(".") if heading else []:
        below = next(iter(table.values())) if key == "NAME" else table[key]
        table = below[0] if isinstance(below, list) else below
    assert table


def test_the_examples_together_load(tmp_path: Path) -> None:
    """One of two places that give the shards has to be left out."""
    parts = examples()
    del parts["database.NAME.sharding.shards"]
    parts[""] = ""
    (tmp_path / "config.toml").write_text("\n".join(parts.values()))
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "ops").write_text("pw\n")
    settings = load(tmp_path / "config.toml", {"APP_PASSWORD": "pw", "CACHE_KEY": "00" * 32})
    assert len(settings.databases["app"].sharding.shards) == 2


def test_the_example_configuration_of_the_repository_loads() -> None:
    settings = load(ROOT / "config.toml", {})
    assert settings.cache.rules
    assert settings.routing.rules
    assert settings.databases["app"].sharding.tables
