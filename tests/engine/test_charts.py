import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from napari_ssl_pretrain.engine.charts import best_epoch, draw_charts, draw_model_plot
from napari_ssl_pretrain.engine.model_plot import count, size
from napari_ssl_pretrain.engine.network_boxes import levels, network_boxes
from napari_ssl_pretrain.engine.state import EpochRow
from napari_ssl_pretrain.spec.run_dir import RunDir


def row(epoch, validation=0.5, **metrics):
    return EpochRow(epoch, 10 * epoch, 1 / epoch, validation, 1e-3, 2.0, 50.0, metrics)


def picture(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path, "job", 3)


def test_one_chart_for_the_loss_and_each_metric(run):
    draw_charts(run, [row(1, psnr=20.0, psnr_input=19.0), row(2, 0.4, psnr=22.0, psnr_input=19.0)])
    names = {p.name for p in run.charts.iterdir()}
    assert names == {"job_3_loss.png", "job_3_psnr.png", "job_3_psnr_input.png"}
    assert min(picture(run.chart("loss")).shape[:2]) > 400


def test_nothing_is_drawn_before_the_first_epoch(run):
    draw_charts(run, [])
    assert not run.charts.exists()


@pytest.mark.parametrize("missing", [math.nan, math.inf, 1e30])
def test_missing_numbers_do_not_spoil_a_chart(run, missing):
    draw_charts(run, [row(1, missing, mae=missing)])
    draw_charts(run, [row(1, missing, mae=3.0), row(2, missing), row(3, 0.2, mae=missing)])
    assert len(np.unique(picture(run.chart("loss")))) > 20


def test_charts_are_drawn_anew(run):
    draw_charts(run, [row(1)])
    before = picture(run.chart("loss"))
    draw_charts(run, [row(1), row(2, 0.1)])
    assert (picture(run.chart("loss")) != before).any()


def test_best_epoch_has_the_lowest_validation_loss():
    assert best_epoch([row(1, 0.5), row(2, 0.2), row(3, math.nan), row(4, 0.3)]) == 1
    assert best_epoch([row(1, math.nan)]) is None
    assert best_epoch([]) is None


class Toy(nn.Module):
    """Encoder, bottom, decoder, head, by the names that a backbone gives them."""

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList([nn.Conv2d(1, 4, 3, 1, 1), nn.Conv2d(4, 8, 3, 2, 1)])
        self.up = nn.ConvTranspose2d(8, 4, 2, 2)
        self.last = nn.Conv2d(8, 1, 1)

    def forward(self, images):
        fine = self.down[0](images)
        return self.last(torch.cat([fine, self.up(self.down[1](fine))], 1))

    def encoder_prefixes(self):
        return ("down.",)

    def head_prefixes(self):
        return ("last.",)


class Chain(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(16, 12)
        self.blocks = nn.ModuleList(nn.Linear(12, 12) for _ in range(3))

    def forward(self, images):
        x = self.embed(images.reshape(len(images), -1, 16))
        for block in self.blocks:
            x = block(x)
        return x


def test_boxes_say_what_the_network_is():
    model = Toy().train()
    boxes = network_boxes(model, (1, 1, 16, 16))
    assert [(b.name, b.shape, b.role) for b in boxes] == [
        ("down.0", (4, 16, 16), "encoder"),
        ("down.1", (8, 8, 8), "encoder"),
        ("up", (4, 16, 16), "decoder"),
        ("last", (1, 16, 16), "head"),
        ("", (1, 16, 16), "image"),
    ]
    assert sum(b.parameters for b in boxes) == sum(p.numel() for p in model.parameters())
    assert levels(boxes, 2) == [0, 1, 0, 0, 0]
    assert model.training
    assert not any(m._forward_hooks for m in model.modules())


def test_boxes_that_are_alike_become_one():
    boxes = network_boxes(Chain(), (1, 1, 8, 8))
    assert [(b.name, b.times) for b in boxes] == [("embed", 1), ("blocks.0", 3), ("", 1)]
    assert levels(boxes, 2) is None


@pytest.mark.parametrize("model", [Toy(), Chain()])
def test_a_network_is_drawn(tmp_path, model):
    draw_model_plot(model, (1, 1, 16, 16), tmp_path / "charts" / "model_plot.png")
    drawn = picture(tmp_path / "charts" / "model_plot.png")
    assert min(drawn.shape[:2]) > 150
    assert (drawn < 128).any()


def test_numbers_are_written_short():
    assert [count(n) for n in (0, 999, 24_100, 1_790_000, 2_000_000_000)] == [
        *("0", "999", "24.1 k", "1.79 M", "2 G")
    ]
    assert size((64, 192)).startswith("64 tokens")
