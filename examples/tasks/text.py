"""Sequences in dict batches as Hugging Face's tokenizers make them: text classification, or a tag for each token.

python examples/tasks/text.py --task classification --strategy BADGE --seeds 5
python examples/tasks/text.py --task tagging --strategy Margin --seeds 5
"""

from __future__ import annotations

import argparse
import functools
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

VOCABULARY, TOPICS, TAGS = 200, 6, 4
"""Token 0 is padding. Tokens from 100 on belong to a topic each; token t < 100 has the tag t % 4 or the one after."""
IGNORED = -100

Task = Literal["classification", "tagging"]
Item = dict[str, Any]


def sentences(task: Task, count: int, seed: int) -> Any:
    """Sentences of 5 to 30 made words.

    Classification: a word in eight is of the sentence's topic, one at least, and topic k + 1 is 0.6 times as frequent
    as topic k. Tagging: a word's tag is ``t % 4``, and the next one where the word before is even.

    Args:
        task: Whether ``labels`` is a topic or a tag a token.
        count: How many.
        seed: Of all that is drawn.

    Returns:
        Items with ``input_ids`` and ``attention_mask`` (T,), and ``labels``, a number or (T,).
    """
    draw = torch.Generator().manual_seed(seed)
    frequency = 1 / torch.arange(1, 100, dtype=torch.float32)  # Zipf's law
    items: list[Item] = []
    for _ in range(count):
        length = int(torch.randint(5, 31, (), generator=draw))
        words = 1 + torch.multinomial(frequency, length, replacement=True, generator=draw)
        if task == "tagging":
            before = torch.cat([torch.ones(1, dtype=torch.int64), words[:-1]])
            labels = (words + (before % 2 == 0)) % TAGS
        else:
            labels = torch.multinomial(0.6 ** torch.arange(TOPICS), 1, generator=draw)[0]
            own = 100 + TOPICS * torch.multinomial(frequency[:16], length, replacement=True, generator=draw) + labels
            spoken = torch.rand(length, generator=draw) < 1 / 8
            spoken[torch.randint(length, (), generator=draw)] = True
            words = torch.where(spoken, own, words)
        items.append({"input_ids": words, "attention_mask": torch.ones_like(words), "labels": labels})
    return items


def collate(items: list[Item]) -> dict[str, Tensor]:
    """Pad a batch to its longest sentence, as ``DataCollatorForTokenClassification`` does."""
    batch = {}
    for key, padding in (("input_ids", 0), ("attention_mask", 0), ("labels", IGNORED)):
        values = [item[key] for item in items]
        batch[key] = torch.stack(values) if values[0].ndim == 0 else pad_sequence(values, True, padding)
    return batch


def loaders(task: Task = "classification") -> tuple[DataLoader[Any], DataLoader[Any]]:
    """600 sentences to train on, shuffled, and 400 to test."""
    train, test = sentences(task, 600, seed=0), sentences(task, 400, seed=1)
    return DataLoader(train, 16, shuffle=True, collate_fn=collate), DataLoader(test, 200, collate_fn=collate)


class Classifier(LightningModule):
    """The mean of the words' vectors, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, 32, padding_idx=0)
        self.head = nn.Linear(32, TOPICS)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits (B, 6) for tokens (B, T)."""
        weights = attention_mask / attention_mask.sum(dim=1, keepdim=True)
        logits: Tensor = self.head((self.words(input_ids) * weights[..., None]).sum(dim=1))
        return logits

    def query_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
        """Return the logits: ``forward`` takes two tensors, and a query would hand it the dict."""
        return self(batch["input_ids"], batch["attention_mask"])

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the cross-entropy, a mean over sentences or tokens."""
        logits = self(batch["input_ids"], batch["attention_mask"])
        return cross_entropy(logits, batch["labels"], ignore_index=IGNORED)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log the share of sentences or tokens that are told right."""
        said = self(batch["input_ids"], batch["attention_mask"]).argmax(dim=1)
        counted = batch["labels"] != IGNORED
        accuracy = (said == batch["labels"])[counted].float().mean()
        self.log("accuracy", accuracy, batch_size=int(counted.sum()))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class Tagger(Classifier):
    """A GRU and a linear layer; its ``query_step`` says which places are tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = nn.GRU(32, 32, batch_first=True)
        self.head = nn.Linear(32, TAGS)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits (B, 4, T) for tokens (B, T): the classes second, as ``cross_entropy`` wants them too."""
        read, _ = self.reader(self.words(input_ids))  # padding comes after all tokens and cannot reach them
        return self.head(read).transpose(1, 2)

    def query_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Return the logits and which places count: a sentence's score is the mean over its own tokens."""
        return {"logits": self(batch["input_ids"], batch["attention_mask"]), "mask": batch["attention_mask"].bool()}


COMMON: dict[str, Any] = {"epochs": 20, "metric": "accuracy", "lower_is_better": False, "strategy": "Margin"}
TASKS: dict[Task, dict[str, Any]] = {
    "classification": {
        "model": Classifier,
        "loaders": loaders,
        "loop": {"outputs": "logits", "initial": 20, "query_size": 20, "rounds": 8},
    },
    "tagging": {
        "model": Tagger,
        "loaders": functools.partial(loaders, "tagging"),
        "loop": {"outputs": "dense", "initial": 10, "query_size": 10, "rounds": 7},
    },
}

if __name__ == "__main__":
    from comparison import main  # of this folder, which Python looks into first when it runs a script

    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--task", choices=list(TASKS), default="classification")
    given, rest = parser.parse_known_args()
    main(TASKS[given.task] | COMMON, rest)
