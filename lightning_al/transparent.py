"""A LightningDataModule in front of another one, which shows through."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.model_helpers import is_overridden

# Only what the user overrode is forwarded: Lightning asks `is_overridden(name, datamodule)`.
_FORWARDED_HOOKS = (
    "prepare_data",
    "val_dataloader",
    "test_dataloader",
    "predict_dataloader",
    "on_exception",
    "on_before_batch_transfer",
    "transfer_batch_to_device",
    "on_after_batch_transfer",
)


class TransparentDataModule(LightningDataModule):
    """Every hook, loader and attribute is the wrapped datamodule's own, but for what a subclass overrides.

    A subclass puts its own attributes into ``__dict__``, past ``__setattr__``, which would give those whose names the
    wrapped datamodule uses too (``seed`` and the like) to the latter.

    Args:
        datamodule: The datamodule to wrap.

    Raises:
        ValueError: It is no LightningDataModule, or wrapped already.
    """

    datamodule: LightningDataModule
    _set_up: set[str]

    def __init__(self, datamodule: LightningDataModule) -> None:
        if not isinstance(datamodule, LightningDataModule):
            other = "pytorch_lightning" in {base.__module__.split(".")[0] for base in type(datamodule).__mro__}
            hint = " Import it from lightning.pytorch: the two packages do not mix." if other else ""
            raise ValueError(
                "Expected `datamodule` to be a lightning.pytorch.LightningDataModule, but got a "
                f"{type(datamodule).__qualname__}.{hint}"
            )
        if isinstance(datamodule, TransparentDataModule):
            raise ValueError(f"The datamodule is an {type(datamodule).__name__} already: pass the plain one.")
        super().__init__()
        # What Lightning's constructor set and the wrapped datamodule has too (hyperparameters, flags) is the latter's.
        for name in vars(self).keys() & vars(datamodule).keys():
            del self.__dict__[name]
        self.__dict__ |= {"datamodule": datamodule, "_set_up": set()}
        for name in _FORWARDED_HOOKS:
            if is_overridden(name, datamodule):
                setattr(self, name, getattr(datamodule, name))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "datamodule" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.__dict__["datamodule"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        # The Tuner's `scale_batch_size` and CLI links set attributes on what the trainer knows: this wrapper.
        inner = self.__dict__.get("datamodule")
        own = name in self.__dict__ or hasattr(type(self), name)
        its = inner is not None and not name.startswith("_") and (name in vars(inner) or hasattr(type(inner), name))
        if its and not own:
            setattr(inner, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def trainer(self) -> Any:
        """The trainer, the same for the wrapped datamodule."""
        return self._trainer

    @trainer.setter
    def trainer(self, trainer: Any) -> None:
        self.__dict__["_trainer"] = trainer
        if "datamodule" in self.__dict__:
            self.datamodule.trainer = trainer

    def setup(self, stage: str) -> None:
        """Set up the wrapped datamodule, once until it is torn down."""
        if stage not in self._set_up:  # a script's own `setup("fit")`, then the trainer's: a split is drawn once
            self.datamodule.setup(stage)
            self._set_up.add(stage)

    def teardown(self, stage: str) -> None:
        """Tear down the wrapped datamodule."""
        self._set_up.discard(stage)
        self.datamodule.teardown(stage)
