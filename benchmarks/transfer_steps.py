r"""Gain of pretraining after a fixed number of steps: a busy machine changes nothing.

    python benchmarks/transfer_steps.py --data data/em --steps 300 --rate 4.5e-3 \
        masking=runs/a/checkpoints/a_1-checkpoint-best.pth crappify=runs/b/checkpoints/…

The folder holds train/x, train/y, test/x and test/y. One thread; each checkpoint is a study with a
scratch arm of its own. Prints the gain, the interval that `transfer` gives, and each repetition.
What can be changed beside that: `--plain` predicts test images without mirrors, `--arm frozen`
compares a frozen encoder, `--encoder_rate 0.2` trains the pretrained encoder at a fifth of the
rate, `--strong` varies the labelled patches twice as often and more, `--mix 0.5` begins half-way
between the pretrained and the fresh weights, `--encoder_only` with a fresh decoder, `--batch 24`
takes larger batches, `--last` scores the last state instead of the mean of the states.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from napari_ssl_pretrain.engine.transfer import finetune, vary
from napari_ssl_pretrain.engine.transfer.checks import check
from napari_ssl_pretrain.engine.transfer.statistics import mean_score, paired_gain
from napari_ssl_pretrain.engine.transfer.study import Runner
from napari_ssl_pretrain.spec.transfer import TransferConfig


class FixedSteps(Runner):
    """A study whose steps and rate are given."""

    steps, rate, batch, mix, encoder_only = 300, 4.5e-3, 0, 1.0, False

    def _plan(self) -> int:
        self.setting = replace(self.setting, batch_size=self.batch or self.setting.batch_size)
        return self.steps

    def _choose_rates(self, _: int) -> None:
        self._rates = dict.fromkeys(self.study.config.arms, self.rate)

    def _start(self, arm: str, seed: int) -> nn.Module:
        model = super()._start(arm, seed)
        if arm != "scratch":
            fresh, encoder = super()._start("scratch", seed), model.encoder_prefixes()
            with torch.no_grad():
                for (name, own), new in zip(
                    model.named_parameters(), fresh.parameters(), strict=True
                ):
                    dropped = self.encoder_only and not name.startswith(encoder)
                    own.lerp_(new, 1.0 if dropped else 1 - self.mix)
        return model


def slow_encoder(factor: float) -> None:
    """Train the encoders that wait for their decoder at a part of the rate."""
    make = finetune.make_groups

    def make_groups(*args) -> list[dict]:
        groups = make(*args)
        for group in groups:
            group["factor"] *= factor if group["encoder"] else 1.0
        return groups

    finetune.make_groups = make_groups


def vary_more() -> None:
    vary.SHARE, vary.ZOOM, vary.BLUR = 0.8, (0.6, 1.6), 1.5
    vary.CONTRAST = vary.GAMMA = (0.5, 2.0)
    vary.SHIFT, vary.NOISE = 0.5, 0.4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=FixedSteps.steps)
    parser.add_argument("--rate", type=float, default=FixedSteps.rate)
    parser.add_argument("--n_labels", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arm", choices=("pretrained", "frozen"), default="pretrained")
    parser.add_argument("--encoder_rate", type=float, default=1.0)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--strong", action="store_true")
    parser.add_argument("--mix", type=float, default=FixedSteps.mix)
    parser.add_argument("--encoder_only", action="store_true")
    parser.add_argument("--batch", type=int, default=FixedSteps.batch)
    parser.add_argument("--last", action="store_true")
    parser.add_argument("checkpoints", nargs="+", help="NAME=CHECKPOINT")
    args = parser.parse_args()
    torch.set_num_threads(1)
    FixedSteps.steps, FixedSteps.rate = args.steps, args.rate
    FixedSteps.mix, FixedSteps.batch = args.mix, args.batch
    FixedSteps.encoder_only = args.encoder_only
    if args.last:
        finetune.MEAN_DECAY = 1e12
    if args.plain:
        finetune.MIRRORS = ((),)
    if args.strong:
        vary_more()
    slow_encoder(args.encoder_rate)
    for text in args.checkpoints:
        name, _, path = text.partition("=")
        asked = TransferConfig(
            checkpoint=path,
            images=str(args.data / "train/x"),
            labels=str(args.data / "train/y"),
            test_images=str(args.data / "test/x"),
            test_labels=str(args.data / "test/y"),
            n_labels=(args.n_labels,),
            seeds=args.seeds,
            arms=("scratch", "pretrained", args.arm),
        )
        scores = FixedSteps(check(asked), lambda _: None, lambda: False).run().scores
        gain, *each = (
            paired_gain([s for s in scores if s.seed in seeds], arm=args.arm)
            for seeds in (range(args.seeds), *([seed] for seed in range(args.seeds)))
        )
        few = scores[0].n_labels
        found = [mean_score(scores, arm, few) for arm in ("scratch", args.arm)]
        print(
            f"{name}, {few} labels, {args.steps} steps: {found[0]:.3f} to {found[1]:.3f}, "
            f"{100 * gain.mean:+.1f} ({100 * gain.low:+.2f} to {100 * gain.high:+.2f}); each "
            + " ".join(f"{100 * one.mean:+.1f}" for one in each),
            flush=True,
        )


if __name__ == "__main__":
    main()
