"""Embeddings of the pilot and the test set, extracted once: by the user's model, or by a backbone."""

from __future__ import annotations

import copy
import difflib
import importlib
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torchvision
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from lightning_al.querying import target_set
from lightning_al.rounds import evaluation_batches, query_machine
from lightning_al.scoring import OutputKind, score_pool
from lightning_al.strategies.random import Random
from lightning_al.study.full_data import PilotData, class_indices
from lightning_al.study.full_trainer import Unheard, check_study_trainer, quiet, quiet_trainer, run
from lightning_al.study.seeding import seeded


@dataclass(frozen=True)
class Embedded:
    """What a proxy works on, on the CPU.

    Args:
        pilot: Embeddings of the pilot ``(N, D)``, float32, in the order of the training set.
        pilot_targets: Their class indices ``(N,)``.
        test: Embeddings of the test set ``(M, D)``, float32, in the order of its loader.
        test_targets: Their class indices ``(M,)``.
        wanted: Embeddings of the datamodule's ``target_dataset()`` ``(W, D)``, where some strategy reads them.
    """

    pilot: Tensor
    pilot_targets: Tensor
    test: Tensor
    test_targets: Tensor
    wanted: Tensor | None = None

    @property
    def num_classes(self) -> int:
        """One more than the greatest class index; at least 2."""
        return max(2, 1 + int(torch.cat([self.pilot_targets, self.test_targets]).max()))


def extract(
    model: LightningModule | Callable[[], LightningModule],
    datamodule: LightningDataModule,
    trainer: Trainer | Callable[[], Trainer],
    *,
    backbone: str | Callable[..., Any] | None = None,
    outputs: OutputKind = "logits",
    embedding_layer: str | None = None,
    targets: bool = False,
    seed: int = 0,
) -> Embedded:
    """Run a network once over the pilot, without augmentation, and over the test set.

    It runs in evaluation, on the trainer's device and in its precision; nothing is trained.

    Args:
        model: The user's model, copied, or what makes it; run as it is, and not at all where there is a backbone.
        datamodule: The data. The training set is the pilot; the test loader, else the validation loader, the test set.
        trainer: A Trainer that was not used, or a function that makes one.
        backbone: See `load_backbone`. None: the model, whose embedding is what its last linear layer sees.
        outputs: What the model returns.
        embedding_layer: The name of the model's layer whose input is the embedding; by default the last linear layer.
        targets: Whether to run it over the datamodule's ``target_dataset()`` too, where there is one.
        seed: Under which the model is made.

    Returns:
        Embeddings and targets.

    Raises:
        MisconfigurationException: The trainer, the data or the backbone do not fit.
        ScoringError: The model gives no embeddings, or some that are not finite.
        ValueError: The targets are no class indices.

    Example:
        >>> from lightning_al.demos import DigitsCNN, DigitsDataModule
        >>> found = extract(DigitsCNN, DigitsDataModule(), Trainer(accelerator="cpu", logger=False))
        >>> found.pilot.shape, found.test.shape, found.num_classes
        (torch.Size([1197, 64]), torch.Size([400, 64]), 10)
    """
    copied = quiet_trainer(trainer)
    check_study_trainer(copied)
    data = PilotData(datamodule)
    with quiet(repeated=False), tempfile.TemporaryDirectory(prefix="lightning_al-") as folder:
        warnings.filterwarnings("ignore", module=r"lightning\.pytorch")  # they are about a fit
        with seeded(0, data):  # the split of the fits
            data.prepare(copied, download=True)
        with seeded(seed, data):
            if backbone is not None:
                network, extraction = load_backbone(backbone), _Extraction(data, "logits", None, seed, targets)
            else:
                network = copy.deepcopy(model) if isinstance(model, LightningModule) else model()
                extraction = _Extraction(data, outputs, embedding_layer, seed, targets)
            if copied.loggers:
                copied.logger = Unheard(folder)
            copied.callbacks = [extraction]
            run(copied, network, data.part(np.arange(data.pool.size), seed))
    return extraction.found


class _Extraction(Callback):
    """Keeps a fit from training and runs the passes at its end, while the model is on the device."""

    found: Embedded

    def __init__(self, data: PilotData, outputs: OutputKind, layer: str | None, seed: int, targets: bool) -> None:
        self.data, self.outputs, self.layer, self.seed, self.targets = data, outputs, layer, seed, targets

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Not before: schedules that the model made were told of the fit's full length, as they need it."""
        trainer.limit_train_batches = 0

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """All passes."""
        loader = self.data.test_loader()
        test = self._embed(
            trainer, _num_rows(loader), lambda rows: evaluation_batches(trainer, loader, "Embedding the test set")
        )
        pilot, wanted = self._embed(trainer, self.data.pool.size), target_set(self.data) if self.targets else None
        self.found = Embedded(*pilot, *test, None if wanted is None else self._embed_wanted(trainer, wanted))

    def _embed(
        self, trainer: Trainer, rows: int, batches: Callable[[Tensor], Iterable[Any]] | None = None
    ) -> tuple[Tensor, Tensor]:
        targets: list[Tensor] = []

        def noted(given: Iterable[Any]) -> Iterator[Any]:
            for batch in given:
                targets.append(class_indices(batch).cpu())
                yield batch

        return self._run(trainer, rows, batches, noted), torch.cat(targets)

    def _embed_wanted(self, trainer: Trainer, wanted: Any) -> Tensor:
        """Of samples that need no labels."""
        return self._run(trainer, len(wanted), None, lambda given: given, wanted)

    def _run(
        self,
        trainer: Trainer,
        rows: int,
        batches: Callable[[Tensor], Iterable[Any]] | None,
        noted: Callable[[Iterable[Any]], Iterable[Any]],
        dataset: Any = None,
    ) -> Tensor:
        title = "Embedding the pilot" if dataset is None else "Embedding the target set"
        with query_machine(trainer, self.data, self.seed, title, dataset) as machine:
            source, size = (batches, None) if batches else (machine.batches, machine.batch_size)
            scored = score_pool(
                Random(),
                torch.arange(rows),
                replace(machine, batches=lambda indices: noted(source(indices)), batch_size=size),
                kind=self.outputs,
                needs=frozenset({"embeddings"}),
                embedding_layer=self.layer,
            )
        return scored.outputs.require("embeddings", "a proxy").float().cpu()


def _num_rows(loader: Any) -> int:
    """How many samples a loader gives: told by its sampler, or by reading it once."""
    if isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset) and loader.batch_size:
        rows = len(loader.sampler)  # type: ignore[arg-type]  # every sampler of a map-style dataset has a length
        return rows - rows % loader.batch_size if loader.drop_last else rows
    return sum(len(class_indices(batch)) for batch in loader)


def load_backbone(backbone: str | Callable[..., Any]) -> LightningModule:
    """A network to embed with, around which nothing else is known.

    Args:
        backbone: The name of one of torchvision's classifiers, ``"resnet18"``: with its default weights and the
            transforms that belong to them; images ``(B, 3, H, W)`` or gray ``(B, 1, H, W)``, uint8 or float in [0, 1].
            Else a module, or a class or function that makes one without arguments, or the path of one of these,
            ``"my_project.MyEncoder"``: what the module returns for a batch's inputs, flattened, is the embedding.

    Returns:
        A LightningModule that embeds batches.

    Raises:
        MisconfigurationException: The weights cannot be read, and torchvision could not download them.
        ValueError: There is no such backbone.
    """
    names = torchvision.models.list_models(module=torchvision.models)
    if isinstance(backbone, str) and backbone in names:
        return _TorchvisionBackbone(backbone)
    found: Any = backbone
    why = ""
    if isinstance(backbone, str):
        path, _, name = backbone.rpartition(".")
        close = difflib.get_close_matches(backbone, names, n=3)
        why = f" Close to it: {close}." if close else ""
        try:
            found = getattr(importlib.import_module(path), name) if path else None
        except (ImportError, AttributeError) as error:
            why = f" ({error})"
    module = found() if callable(found) and not isinstance(found, nn.Module) else found
    if not isinstance(module, nn.Module):
        raise ValueError(
            "Expected `backbone` to be the name of a torchvision classifier ('resnet18'), a torch.nn.Module or what "
            f"makes one, or the path of either, but got {backbone!r}.{why}"
        )
    return _ModuleBackbone(module)


class _Frozen(LightningModule):
    """What the Trainer asks of a model before it looks whether there is anything to train."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Never called."""

    def configure_optimizers(self) -> None:
        """None are needed."""


class _ModuleBackbone(_Frozen):
    """A module that returns embeddings."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def query_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Its embeddings; the logits that a query would have are not there."""
        embeddings = self.module(batch[0] if isinstance(batch, (tuple, list)) else batch)
        rows = len(embeddings) if isinstance(embeddings, Tensor) and embeddings.ndim else 0
        return {"logits": torch.zeros(rows, 2, device=self.device), "embeddings": embeddings}


class _TorchvisionBackbone(_Frozen):
    """A torchvision classifier; the embedding is what its last linear layer sees."""

    def __init__(self, name: str) -> None:
        super().__init__()
        weights: Any = torchvision.models.get_model_weights(name).DEFAULT
        try:
            self.module = torchvision.models.get_model(name, weights=weights)
        except (OSError, RuntimeError) as error:  # offline, no room on the disk, or a broken file
            raise MisconfigurationException(
                f"The weights of the backbone {name!r} cannot be read ({error}). Where there is no network, download "
                f"{weights.url} elsewhere and put it into {torch.hub.get_dir()}/checkpoints; or leave out `backbone`, "
                "which embeds with your own model."
            ) from error
        self.name, self.transforms, self._looked = name, weights.transforms(), False

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the classes that it was trained on."""
        if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] not in (1, 3):
            got = tuple(images.shape) if isinstance(images, Tensor) else f"a {type(images).__name__}"
            raise MisconfigurationException(
                f"The backbone {self.name!r} takes images (B, 3, H, W) or (B, 1, H, W), but got {got}. Let the "
                "datasets return (image, label), or embed with a module of your own, backbone='my_project.MyEncoder'."
            )
        if images.is_floating_point() and not self._looked:
            low, high = float(images.min()), float(images.max())
            if low < -0.01 or high > 1.01:
                rank_zero_warn(
                    f"The backbone {self.name!r} normalizes images in [0, 1] as its weights need it, and yours reach "
                    f"from {low:.1f} to {high:.1f}, as if normalized already. Leave `Normalize` out of the transforms, "
                    "or embed with a module of your own."
                )
        self._looked = True
        logits: Tensor = self.module(self.transforms(images.expand(-1, 3, -1, -1)))
        return logits
