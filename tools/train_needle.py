"""Train the needle model in numpy: `train_needle.py --scheme nope --seed 0`, a few minutes on one core.

The result depends on the scheme, the seed and the number of steps, never on the clock: every step draws its batch from
a generator seeded by (seed, step). A checkpoint is written every 100 steps, and a run that was interrupted goes on from
it to the same weights. `ship_needle.py` scores the trained seeds and picks the one that the course uses.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from pathlib import Path
from random import Random

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # two seeds side by side are faster than one on two cores

import numpy as np
from needle_network import Array, backpropagate, first_weights, loss_and_gradients
from needle_sequences import STAGES, batch
from tqdm import tqdm

from kvlib.lab.tinylm import SCHEMES

__all__ = ["Training", "loss_and_gradients", "train"]


class Training:
    """The state of one run: weights, both moments of AdamW, the stage, and the running accuracy."""

    RATE, BETAS, EPS, DECAY, CLIP, WARM_UP = 3e-3, (0.9, 0.98), 1e-8, 0.1, 1.0, 150

    def __init__(self, scheme: str, seed: int, steps: int) -> None:
        self.scheme, self.seed, self.steps = scheme, seed, steps
        self.weights = first_weights(seed)
        self.mean = {name: np.zeros_like(value) for name, value in self.weights.items()}
        self.square = {name: np.zeros_like(value) for name, value in self.weights.items()}
        self.step = self.stage = self.stage_began = 0
        self.accuracy = 0.0
        self.log: list[dict[str, float]] = []

    def advance(self) -> None:
        """One step: a batch, its gradient, the update, and perhaps the next stage."""
        ids, targets, row_weights, answers = batch(Random(f"{self.seed} {self.step}"), STAGES[self.stage])
        loss, grads, right = backpropagate(self.weights, self.scheme, ids, targets, row_weights)
        self.accuracy = 0.97 * self.accuracy + 0.03 * float(right[answers].mean())
        self._update(grads)
        self.step += 1
        if self.step % 20 == 0:
            row = {"step": self.step, "stage": self.stage, "loss": round(loss, 4), "accuracy": round(self.accuracy, 4)}
            self.log.append(row)
        stage = STAGES[self.stage]
        learned = self.accuracy > stage.leave_at and self.step - self.stage_began >= stage.least_steps
        if self.stage < len(STAGES) - 1 and (learned or self.step > stage.latest * self.steps):
            self.stage, self.stage_began = self.stage + 1, self.step

    def _update(self, grads: dict[str, Array]) -> None:
        norm = math.sqrt(sum(float(np.sum(grad * grad)) for grad in grads.values()))
        clip = min(1.0, self.CLIP / (norm + 1e-12))
        late = min(1.0, (1 - self.step / self.steps) / 0.3 + 0.01)
        rate = self.RATE * late * min(1.0, (self.step + 1) / self.WARM_UP)
        beta1, beta2 = self.BETAS
        for name, value in self.weights.items():
            grad, mean, square = grads[name] * np.float32(clip), self.mean[name], self.square[name]
            mean += (1 - beta1) * (grad - mean)
            square += (1 - beta2) * (grad * grad - square)
            unbiased = mean / (1 - beta1 ** (self.step + 1))
            spread = np.sqrt(square / (1 - beta2 ** (self.step + 1))) + self.EPS
            decay = 0.0 if "gain" in name else self.DECAY
            value -= np.float32(rate) * (unbiased / spread + np.float32(decay) * value)

    def save(self, path: Path) -> None:
        """Write everything that the next step depends on; the old file stays until the new one is whole."""
        state = {
            key: getattr(self, key) for key in ("scheme", "seed", "steps", "step", "stage", "stage_began", "accuracy")
        }
        arrays = {
            f"{group}/{name}": value
            for group in ("weights", "mean", "square")
            for name, value in getattr(self, group).items()
        }
        new = path.with_suffix(".new.npz")
        np.savez(new, state=json.dumps(state | {"log": self.log}), **arrays)
        new.replace(path)

    @classmethod
    def load(cls, path: Path) -> Training:
        with np.load(path) as file:
            state = json.loads(str(file["state"]))
            run = cls(state["scheme"], state["seed"], state["steps"])
            for group in ("weights", "mean", "square"):
                setattr(run, group, {name: file[f"{group}/{name}"] for name in run.weights})
        for key, value in state.items():
            setattr(run, key, value)
        return run


def train(scheme: str, seed: int, steps: int, folder: Path) -> Training:
    """Train one seed, from its checkpoint if there is one, to its last step."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{scheme}-{steps}-{seed}.npz"
    run = Training.load(path) if path.exists() else Training(scheme, seed, steps)
    with tqdm(total=steps, initial=run.step, desc=path.stem, unit="step", mininterval=2) as bar:
        while run.step < steps:
            run.advance()
            bar.set_postfix(stage=run.stage, accuracy=f"{run.accuracy:.2f}", refresh=False)
            bar.update()
            if run.step % 100 == 0 or run.step == steps:
                run.save(path)
    return run


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scheme", choices=SCHEMES, default="nope")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--folder", type=Path, default=Path("build/needle"), help="where checkpoints lie")
    args = parser.parse_args()
    train(args.scheme, args.seed, args.steps, args.folder)


if __name__ == "__main__":
    main()
