"""Stems, blocks, layers and backbones shared by the families."""
