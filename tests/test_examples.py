"""Every config under ``examples/`` and ``tests/conf`` is run through the command line."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from PIL import Image
from torchvision.models import EfficientNet_B0_Weights, efficientnet_b0

from examples import DataError
from examples.deepweeds.data import DeepWeedsDataModule, check_photos, read_fold
from examples.deepweeds.model import ResNet
from examples.seedlings import prepare
from examples.seedlings.data import FlippedAndTurned, SeedlingsFeatures, SeedlingsPhotos
from lightning_al.cli import main
from lightning_al.demos import DigitsCNN, DigitsDataModule

ROOT = Path(__file__).parent.parent
LABELS = Path(__file__).parent / "data" / "deepweeds" / "labels"
CONFIGS = sorted((ROOT / "tests" / "conf").glob("*.yaml"))
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*/*.yaml") if "study" not in path.stem)  # no fit


def run(config: dict[str, Any], folder: Path) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Run ``fit`` and return the rows of rounds.csv and of the ledger."""
    config["trainer"] |= {"default_root_dir": str(folder), "logger": False, "accelerator": "cpu"}
    config["trainer"] |= {"enable_progress_bar": False, "enable_model_summary": False}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    main(["fit", "--config", str(path)])
    return [
        list(csv.DictReader((folder / "active_learning" / name).open(newline="")))
        for name in ("rounds.csv", "ledger.csv")
    ]


@pytest.fixture(autouse=True)
def _no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pytest's own arguments are none of the command's; Lightning warns where both are given."""
    monkeypatch.setattr("sys.argv", ["lightning-al"])


def labels_a_round(rows: list[dict[str, str]]) -> list[int]:
    return [int(row["labeled"]) for row in rows]


def learning(config: dict[str, Any]) -> dict[str, Any]:
    """The callback's arguments in a config."""
    return next(c["init_args"] for c in config["trainer"]["callbacks"] if c["class_path"] == "ActiveLearning")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("badge_shares", [12, 24]),
        ("cold_start", [10, 15, 20]),
        ("entropy", [10, 15, 20]),
        ("plain_datamodule", [10, 15, 20]),
        ("random_optimizer", [10, 17, 20]),
        ("reset_random", [6]),
    ],
)
def test_config(name: str, expected: list[int], tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / "tests" / "conf" / f"{name}.yaml").read_text())
    rounds, ledger = run(config, tmp_path)
    assert labels_a_round(rounds) == expected
    assert all(int(row["labeled"]) + int(row["unlabeled"]) == 1197 for row in rounds)
    indices = [int(row["dataset_index"]) for row in ledger]
    assert len(set(indices)) == len(indices) == expected[-1]
    assert [sum(int(row["round"]) <= r for row in ledger) for r in range(len(expected))] == expected
    arguments = learning(config)
    strategy = arguments["strategy"]["class_path"] if isinstance(arguments["strategy"], dict) else arguments["strategy"]
    assert {row["strategy"] for row in ledger if row["round"] != "0"} <= {strategy}
    assert {row["strategy"] for row in ledger if row["round"] == "0"} == {arguments.get("initial_strategy", "initial")}


def test_every_config_is_run() -> None:
    parameters = next(mark for mark in test_config.pytestmark if mark.name == "parametrize").args[1]
    assert sorted(name for name, _ in parameters) == [path.stem for path in CONFIGS]


# -- examples


def digits(config: dict[str, Any], folder: Path) -> list[int]:
    learning(config)["budget"] = 60
    return [20, 40, 60]


def seedlings_features(config: dict[str, Any], folder: Path) -> list[int]:
    write_seedlings(folder, "plant_seedlings_v2_effnetlite0_224.npz", embeddings=np.float16)
    learning(config).update(query_size=12, budget=48)
    config["data"]["init_args"]["initial"] = 24
    config["data"]["init_args"]["datamodule"]["init_args"]["data_dir"] = str(folder)
    config["trainer"]["max_epochs"] = 15
    return [24, 36, 48]


def seedlings_photos(config: dict[str, Any], folder: Path) -> list[int]:
    write_seedlings(folder, "plant_seedlings_v2_32.npz", images=np.uint8)
    learning(config).update(query_size=12, budget=36)
    config["data"]["init_args"]["initial"] = 24
    config["data"]["init_args"]["datamodule"]["init_args"]["data_dir"] = str(folder)
    config["trainer"]["max_epochs"] = 2
    return [24, 36]


def deepweeds(config: dict[str, Any], folder: Path) -> list[int]:
    write_photos(folder)
    learning(config).update(query_size=9, budget=18)
    config["data"]["init_args"]["initial"] = 9
    config["data"]["init_args"]["datamodule"]["init_args"] |= {
        "data_dir": str(folder),
        "image_size": 64,
        "num_workers": 0,
    }
    config["model"]["init_args"]["architecture"] = "resnet18"
    config["trainer"] |= {"max_epochs": 1, "precision": "32-true", "num_sanity_val_steps": 0}
    return [9, 18]


SMALLER: dict[str, Callable[[dict[str, Any], Path], list[int]]] = {
    "digits/fit.yaml": digits,
    "seedlings/features.yaml": seedlings_features,
    "seedlings/photos.yaml": seedlings_photos,
    "deepweeds/fit.yaml": deepweeds,
}
LEARNS = {"digits/fit.yaml": 0.75, "seedlings/features.yaml": 0.9}  # val_acc the smaller runs reach with ease


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_example(path: Path, tmp_path: Path) -> None:
    name = f"{path.parent.name}/{path.name}"
    config = yaml.safe_load(path.read_text())
    expected = SMALLER[name](config, tmp_path)
    rounds, ledger = run(config, tmp_path)
    assert labels_a_round(rounds) == expected
    assert len({row["dataset_index"] for row in ledger}) == len(ledger) == expected[-1]
    assert {row["strategy"] for row in ledger if row["round"] != "0"} == {"Margin"}
    assert float(rounds[-1]["val_acc"]) >= LEARNS.get(name, 0)
    assert (tmp_path / "active_learning" / "queries" / "round-001.png").exists() == (name != "seedlings/features.yaml")


def test_readme_snippet_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    snippet, _ = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    shorter = snippet.replace("max_epochs=20", "max_epochs=1").replace("budget=1000", "budget=200")
    assert shorter != snippet
    exec(shorter, {"MyModel": DigitsCNN, "MyDataModule": DigitsDataModule})
    printed = [line.split()[:2] for line in capsys.readouterr().out.splitlines() if "val_acc" in line and "{" in line]
    assert printed == [["0", "100"], ["1", "200"]]


def test_the_readmes_study_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _, snippet = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    tiny = "replicates=2, rounds=1, buckets=2, fractions=[0.2, 0.4], seeds=1, initial=10, query_size=10"
    shorter = snippet.replace('"KMeans"]', f'"KMeans"], {tiny}').replace(
        "max_epochs=20", "max_epochs=1, accelerator='cpu'"
    )
    assert tiny in shorter
    exec(shorter, {"MyModel": DigitsCNN, "MyDataModule": DigitsDataModule, "Trainer": Trainer})
    assert "inconclusive" in capsys.readouterr().out
    assert (tmp_path / "feasibility" / "index.html").is_file()


@pytest.mark.parametrize(
    "files",
    [["digits/study"], ["seedlings/features", "seedlings/study"], ["seedlings/photos", "seedlings/photos_study"]],
)
def test_the_examples_studies_run(files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_seedlings(tmp_path, "plant_seedlings_v2_effnetlite0_224.npz", embeddings=np.float16)
    write_seedlings(tmp_path, "plant_seedlings_v2_32.npz", images=np.uint8)
    smaller = {"replicates": 2, "rounds": 1, "buckets": 2, "seeds": 1, "initial": 12, "query_size": 8}
    arguments = [f"--study.{name}={value}" for name, value in smaller.items()]
    arguments += ["--study.strategies=[Margin]", "--study.fractions=[0.5, 1]", "--trainer.max_epochs=2"]
    arguments += [f"--study.output={tmp_path / 'out'}", "--trainer.accelerator=cpu"]
    if files[0].startswith("seedlings"):
        arguments.append(f"--data.datamodule.data_dir={tmp_path}")
    configs = [argument for name in files for argument in ("--config", str(ROOT / "examples" / f"{name}.yaml"))]
    monkeypatch.chdir(tmp_path)
    main(["study", *configs, *arguments])
    report = json.loads((tmp_path / "out" / "feasibility.json").read_text())
    assert report["verdict"] == "inconclusive"
    assert report["flags"][0] == "too_few_replicates"
    assert report["settings"]["mode"] == ("proxy" if "seedlings/study" in files else "full")
    assert (tmp_path / "out" / "sheets" / "Margin.png").exists() == ("seedlings/study" not in files)


def test_own_strategy_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "writing_a_strategy.md").read_text(encoding="utf-8")
    code, written = (re.search(rf"```{kind}\n(.*?)```", page, re.DOTALL).group(1) for kind in ("python", "yaml"))
    (tmp_path / "my_strategies.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])  # `main` adds the current folder
    config = yaml.safe_load((ROOT / "tests" / "conf" / "entropy.yaml").read_text())
    config["trainer"]["callbacks"] = yaml.safe_load(written)["trainer"]["callbacks"]
    learning(config)["budget"] = 110
    rounds, ledger = run(config, tmp_path)
    assert labels_a_round(rounds) == [10, 110]
    assert {row["strategy"] for row in ledger} == {"initial", "LikelySecond"}
    assert all(0 < float(row["score"]) <= 0.5 for row in ledger if row["round"] == "1")  # of two, the smaller


@pytest.mark.parametrize("path", [path for path in EXAMPLES if "data_dir:" in path.read_text()], ids=lambda p: p.stem)
def test_missing_data_end_the_command_with_one_line(path: Path, tmp_path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    config["data"]["init_args"]["datamodule"]["init_args"]["data_dir"] = str(tmp_path / "nowhere")
    with pytest.raises(SystemExit, match=r"^lightning-al: There is no .*nowhere.*: set `data_dir`.*$"):
        run(config, tmp_path)


# -- seedlings


def write_seedlings(folder: Path, name: str, **inputs: type) -> None:
    """A file like the real one: 12 classes, far apart; 72 samples for training and 60 held out."""
    ((array_name, dtype),) = inputs.items()
    rng = np.random.default_rng(0)
    labels = np.arange(132) % 12
    if dtype is np.uint8:
        levels = rng.integers(0, 256, size=(12, 1, 1, 3))[labels]
        values = (levels + rng.integers(-5, 6, size=(132, 32, 32, 3))).clip(0, 255).astype(dtype)
    else:
        values = (5 + rng.normal(size=(12, 1280))[labels] + 0.3 * rng.normal(size=(132, 1280))).astype(dtype)
    split = (np.arange(132) >= 72).astype(np.uint8)
    np.savez(folder / name, labels=labels.astype(np.int64), split=split, **{array_name: values})


def test_seedlings_features_are_standardized_on_the_training_split(tmp_path: Path) -> None:
    write_seedlings(tmp_path, "plant_seedlings_v2_effnetlite0_224.npz", embeddings=np.float16)
    datamodule = SeedlingsFeatures(tmp_path)
    datamodule.setup("fit")
    raw = np.load(tmp_path / "plant_seedlings_v2_effnetlite0_224.npz")["embeddings"].astype(np.float64)
    expected = (raw - raw[:72].mean(0)) / raw[:72].std(0, ddof=1)
    train, val, test = (datamodule._split(name).tensors[0].double().numpy() for name in ("train", "val", "test"))
    np.testing.assert_allclose(train, expected[:72], atol=1e-4)
    np.testing.assert_allclose(val, expected[72::5], atol=1e-4)
    assert (len(train), len(val), len(test)) == (72, 12, 48)
    assert np.abs(val.mean(0)).max() > 0.01  # not standardized by itself


def test_seedlings_photos_pool_is_not_augmented(tmp_path: Path) -> None:
    write_seedlings(tmp_path, "plant_seedlings_v2_32.npz", images=np.uint8)
    datamodule = SeedlingsPhotos(tmp_path)
    datamodule.setup("fit")
    pool, training = datamodule.pool_dataset(), datamodule.training_dataset()
    raw = np.load(tmp_path / "plant_seedlings_v2_32.npz")
    assert len(pool) == len(training) == 72
    for index in (0, 17, 71):
        photo, label = pool[index]
        np.testing.assert_allclose((photo.permute(1, 2, 0).numpy() + 1) * 127.5, raw["images"][index], atol=1e-3)
        assert label == training[index][1] == raw["labels"][index]


def test_flipped_and_turned_gives_all_eight_views_and_nothing_else() -> None:
    image = torch.arange(12.0).reshape(3, 2, 2)
    dataset = FlippedAndTurned(torch.utils.data.TensorDataset(image[None], torch.tensor([7])))
    views = {tuple(dataset[0][0].flatten().tolist()) for _ in range(200)}
    expected = {
        tuple(torch.rot90(side, turns, (1, 2)).flatten().tolist())
        for side in (image, image.flip(2))
        for turns in range(4)
    }
    assert views == expected
    assert len(expected) == 8


def test_seedlings_missing_file_or_array(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="set `data_dir`"):
        SeedlingsPhotos(tmp_path).setup("fit")
    np.savez(tmp_path / "plant_seedlings_v2_32.npz", labels=np.arange(3))
    with pytest.raises(DataError, match=r"lacks the arrays \['images', 'split'\]"):
        SeedlingsPhotos(tmp_path).setup("fit")
    np.savez(
        tmp_path / "plant_seedlings_v2_32.npz", labels=np.arange(3), images=np.zeros((4, 32, 32, 3)), split=[0] * 3
    )
    with pytest.raises(DataError, match="differ in length"):
        SeedlingsPhotos(tmp_path).setup("fit")


def write_species(folder: Path) -> None:
    """Twelve species of ten photos each; a photo's four quarters of 40 x 32 px have one color each."""
    rng = np.random.default_rng(0)
    for number in range(12):
        (folder / f"Species {number:02d}").mkdir(parents=True)
        for photo in range(10):
            quarters = rng.integers(0, 256, size=(2, 2, 3), dtype=np.uint8)
            Image.fromarray(quarters.repeat(32, 0).repeat(40, 1)).save(
                folder / f"Species {number:02d}" / f"{photo}.png"
            )


def test_seedlings_are_made_from_the_published_photos(tmp_path: Path) -> None:
    write_species(tmp_path / "photos")
    prepare.main([str(tmp_path / "photos"), str(tmp_path / "made")])
    made = np.load(tmp_path / "made" / "plant_seedlings_v2_32.npz")
    assert made["labels"].tolist() == [number for number in range(12) for _ in range(10)]
    assert made["class_names"].tolist() == [f"Species {number:02d}" for number in range(12)]
    assert [int(made["split"][made["labels"] == number].sum()) for number in range(12)] == [3] * 12
    for index in (0, 57, 119):
        with Image.open(tmp_path / "photos" / made["files"][index]) as photo:
            expected = np.asarray(photo)[::32, ::40].repeat(16, 0).repeat(16, 1)
        assert np.array_equal(made["images"][index], expected)
    datamodule = SeedlingsPhotos(tmp_path / "made")
    datamodule.setup("fit")
    assert len(datamodule.pool_dataset()) == 84
    assert datamodule.pool_dataset()[0][0].shape == (3, 32, 32)


def test_small_photos_are_means_over_boxes(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, size=(64, 96, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    (small,) = prepare.small_photos([str(tmp_path / "photo.png")])
    expected = pixels.reshape(32, 2, 32, 3, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(small, expected, atol=1)  # Pillow rounds after each axis


def test_seedlings_features_are_those_of_the_network_before_its_last_layer(tmp_path: Path) -> None:
    write_species(tmp_path / "photos")
    paths = [str(path) for path in sorted(tmp_path.rglob("*.png"))[:3]]
    network = efficientnet_b0()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    got = prepare.features(paths, str(tmp_path / "weights.pth"), batch_size=2)
    assert got.shape == (3, 1280)
    assert got.dtype == np.float16
    seen: list[torch.Tensor] = []
    network.eval().classifier[1].register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    transform = EfficientNet_B0_Weights.DEFAULT.transforms()
    with torch.no_grad():
        for path in paths:
            network(transform(Image.open(path))[None])
    np.testing.assert_allclose(got, torch.cat(seen).numpy(), rtol=2e-3, atol=1e-5)


def test_prepare_says_which_folder_holds_no_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        prepare.main([str(tmp_path), str(tmp_path / "made")])
    assert stopped.value.code == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# -- DeepWeeds


def write_photos(folder: Path) -> list[str]:
    """A folder as published: real label files (an excerpt), and a noisy JPEG of 256 px for each of their rows."""
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for path in LABELS.glob("*.csv"):
        (folder / "labels" / path.name).write_bytes(path.read_bytes())
    rng = np.random.default_rng(0)
    rows = list(csv.DictReader((LABELS / "labels.csv").open(newline="")))
    for row in rows:
        color = np.array([28 * int(row["Label"]), 200 - 20 * int(row["Label"]), 90])
        pixels = (color + rng.integers(-20, 21, size=(256, 256, 3))).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / row["Filename"], quality=80)
    return [row["Filename"] for row in rows]


def test_deepweeds_reads_the_folds_and_all_nine_classes(tmp_path: Path) -> None:
    write_photos(tmp_path)
    datamodule = DeepWeedsDataModule(tmp_path, image_size=64, batch_size=9, num_workers=0)
    with pytest.warns(UserWarning, match=r"20170714-110407-3\.jpg \(0, not 1\)"):
        datamodule.prepare_data()
    datamodule.setup("fit")
    assert datamodule.class_names[0] == "Chinee apple"
    assert datamodule.class_names[8] == "Negative"
    assert len(datamodule.class_names) == datamodule.num_classes == 9
    pool = datamodule.pool_dataset()
    listed = list(csv.DictReader((LABELS / "train_subset0.csv").open(newline="")))
    labels = {row["Filename"]: int(row["Label"]) for row in csv.DictReader((LABELS / "labels.csv").open(newline=""))}
    assert [name for name, _ in pool.rows] == [row["Filename"] for row in listed]
    assert [label for _, label in pool.rows] == [labels[row["Filename"]] for row in listed]
    assert {label for _, label in pool.rows} == set(range(9))
    photos, targets = next(iter(datamodule.train_dataloader()))
    assert photos.shape == (9, 3, 64, 64)
    assert targets.dtype == torch.int64
    assert len(datamodule.train_dataloader().dataset) == 36
    assert len(datamodule.val_dataloader().dataset) == len(datamodule.test_dataloader().dataset) == 9


def test_deepweeds_pool_is_not_augmented(tmp_path: Path) -> None:
    write_photos(tmp_path)
    pool = DeepWeedsDataModule(tmp_path, image_size=224, num_workers=0).pool_dataset()
    photo, _ = pool[5]
    assert torch.equal(photo, pool[5][0])
    with Image.open(tmp_path / "images" / pool.rows[5][0]) as source:
        center = np.asarray(source.convert("RGB"))[16:240, 16:240] / 255
    expected = (center - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    np.testing.assert_allclose(photo.permute(1, 2, 0).numpy(), expected, atol=1e-5)


def test_deepweeds_counts_and_names_missing_and_unreadable_photos(tmp_path: Path) -> None:
    names = write_photos(tmp_path)
    images = tmp_path / "images"
    for name in names[:12]:
        (images / name).unlink()
    (images / names[20]).write_bytes(b"")
    (images / names[21]).write_bytes((images / names[21]).read_bytes()[:2000])  # cut in the middle of the pixels
    (images / names[22]).write_text("<html>not found</html>")
    with pytest.raises(DataError) as caught:
        DeepWeedsDataModule(tmp_path, num_workers=0).prepare_data()
    message = str(caught.value)
    assert "12 of 54 photos are missing" in message
    assert sum(name in message for name in names[:12]) == 10
    assert "and 2 more" in message
    assert "3 of 54 photos are unreadable" in message
    assert all(name in message for name in names[20:23])
    with pytest.raises(DataError, match=f"1 of 2 photos are unreadable: {names[20]}"):
        check_photos(images, [names[20], names[30]])


def test_deepweeds_names_the_label_file_at_fault(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels\.csv"):
        read_fold(tmp_path, 0)
    (tmp_path / "labels.csv").write_text("Filename,Label,Species\na.jpg,0,Lantana\n")
    for split in ("val", "test"):
        (tmp_path / f"{split}_subset2.csv").write_text("Filename,Label\n")
    (tmp_path / "train_subset2.csv").write_text("Filename,Label\nb.jpg,0\n")
    with pytest.raises(DataError, match=r"train_subset2\.csv names 1 photos that labels\.csv does not list: b\.jpg"):
        read_fold(tmp_path, 2)
    (tmp_path / "train_subset2.csv").write_text("Filename,Class\na.jpg,0\n")
    with pytest.raises(DataError, match=r"lacks the columns \['Label'\]"):
        read_fold(tmp_path, 2)


def test_resnet_takes_weights_from_a_file_with_another_number_of_classes(tmp_path: Path) -> None:
    pretrained = ResNet("resnet18", num_classes=20)
    torch.save(pretrained.network.state_dict(), tmp_path / "weights.pth")
    model = ResNet("resnet18", weights=tmp_path / "weights.pth")
    assert torch.equal(model.network.layer4[1].conv2.weight, pretrained.network.layer4[1].conv2.weight)
    assert model.network.fc.weight.shape == (9, 512)
    with pytest.raises(DataError, match="not a state_dict of this architecture"):
        ResNet("resnet50", weights=tmp_path / "weights.pth")
    with pytest.raises(DataError, match="there is no"):
        ResNet(weights=tmp_path / "absent.pth")
