"""Stems, attentions, blocks, layers and backbones that the families share."""
