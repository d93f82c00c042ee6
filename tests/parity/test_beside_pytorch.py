"""`numroberta verify` passes a right model, fails a wrong one, and says what is missing."""

import sys
from dataclasses import replace

import pytest

from numroberta.cli import main
from numroberta.parity import beside_pytorch as verify


def test_a_missing_torch_names_the_extra(small_folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["verify", str(small_folder)]) == 2
    assert "pip install 'numroberta[parity]'" in capsys.readouterr().err


@pytest.mark.parity
def test_a_right_model_passes_layer_by_layer_and_a_wrong_one_fails(small_folder, monkeypatch, capsys):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    assert main(["verify", str(small_folder)]) == 0
    out = capsys.readouterr().out
    assert "encoder.layer.2.output" in out
    assert "\nright" in out

    load = verify.load

    def wrong(name, **options):
        model = load(name, **options)
        model.model.config = replace(model.config, layer_norm_eps=1e-3)
        return model

    monkeypatch.setattr(verify, "load", wrong)
    assert main(["verify", str(small_folder)]) == 1
    assert "WRONG" in capsys.readouterr().out


def test_each_way_of_computing_must_be_right():
    from numroberta.parity.beside_pytorch import LayerErrors

    assert LayerErrors("embeddings", 1e-7, 1e-7, 1e-7, 1e-15).right
    assert not LayerErrors("embeddings", 1e-7, 1e-5, 1e-7, 1e-15).right
    assert not LayerErrors("embeddings", 1e-7, 1e-7, 1e-5, 1e-15).right
    assert not LayerErrors("embeddings", 1e-7, 1e-7, 1e-7, 1e-9).right
