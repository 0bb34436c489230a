"""Families that have a part by default, and that can have it."""

from __future__ import annotations

from models.catalogue.usage import default_in, families, usable_in


def test_every_family_is_listed_once() -> None:
    assert len(set(families())) == len(families())
    assert {"spikformer", "sdt", "qkformer", "sew"} <= set(families())


def test_a_part_is_the_default_of_the_families_whose_presets_or_versions_name_it() -> None:
    assert default_in("attn_layer", "DSSA") == ("spikingresformer",)
    assert "swformer" in default_in("attn_layer", "FATM_binary"), "of the benchmark's version"
    assert "sew" not in default_in("attn_layer", "identity"), "the key has no effect there"
    assert "maxformer" in default_in("attn_layer", "identity"), "in one of its stages"


def test_a_part_is_usable_where_its_rules_allow_it() -> None:
    assert "tim" not in usable_in("node_type", "PSN")
    assert "spikformer" in usable_in("node_type", "PSN")
    assert set(families()) - set(usable_in("attn_layer", "SSA")) == {"sew"}


def test_other_keys_take_part_in_the_trial() -> None:
    assert "spikformer" in usable_in("exit_rule", "margin", exit_threshold=0.9)
    assert usable_in("exit_rule", "margin", exit_threshold=0.9, node_type="PSN") == ()
