"""Appendix B of STG-MTL: the listings as printed, and the layer against what it stands on."""

from __future__ import annotations

import copy
import lzma
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from tests.docs.test_pages import blocks
from torch import nn

from polytask.architectures import CustomArchitecture
from polytask.balancers import FixedWeights
from polytask.grouping import memberships, point_votes
from polytask.grouping.appendix_b import (
    ArrayDataset,
    BaseDataModule,
    BaseDataset,
    BaseMetrics,
    BaseModel,
    BinaryMetrics,
    BinaryModel,
    C10DataModule,
    C10Model,
    C100DataModule,
    C100Model,
    CelebADataModule,
    CelebAModel,
    ClusteringType,
    DataMapRecorder,
    DatamapTaskClustering,
    FuzzyKMeans,
    Trainer,
)
from polytask.grouping.appendix_b.images import _read_images
from polytask.grouping.data_map_recorder import DataMapRecorder as OurRecorder
from polytask.problems import BatchLoader, Problem, Split
from polytask.tasks import Binary, Task, metrics
from polytask.training import Trainer as OurTrainer
from polytask.training import TrainingSettings

NAMES = ("apple", "bear", "clock", "dolphin", "elm", "fox")

LISTING_1 = """
# create an instance of the data module
data_module = C100DataModule(...)
# Now initialize a model
model = C100Model(...)
# Finally, initialize a trainer object
trainer = Trainer(model, data_module, args=args, ...)
# start training
trainer.train()
"""
LISTING_2 = """
# get the data map from the trainer
dm_mtl = trainer.get_data_map()
# initialize a cluster estimator
cluster_estimator = DatamapTaskClustering(dm_mtl, n_clusters, ...)
# get the results
mtl_task_weights = cluster_estimator.cluster(...)
"""


def write_cifar100(folder: Path, *, packed: bool = False) -> dict[str, np.ndarray]:
    """Shards of six classes whose images differ in colour; returns the images by shard."""
    generator = np.random.default_rng(0)
    tones = generator.integers(0, 256, (len(NAMES), 3))
    labels = {"fine_names": np.array(NAMES)}
    images = {}
    for shard, repeats in (("train_a", 6), ("train_b", 6), ("test_a", 2)):
        classes = generator.permutation(np.repeat(np.arange(len(NAMES)), repeats))
        noise = generator.integers(-40, 41, (len(classes), 32, 32, 3))
        images[shard] = np.clip(tones[classes][:, None, None] + noise, 0, 255).astype(np.uint8)
        labels[f"{shard}_fine"] = classes.astype(np.uint8)
        if packed:
            with lzma.open(folder / f"{shard}.npy.xz", "wb") as handle:
                np.save(handle, predicted(images[shard]))
        else:
            np.save(folder / f"{shard}.npy", images[shard])
    np.savez(folder / "labels.npz", **labels)
    return images


def predicted(images: np.ndarray) -> np.ndarray:
    """What is left of planes G, R - G, B - G after the median-edge predictor, pixel by pixel."""
    red, green, blue = images.astype(np.int64).transpose(3, 0, 1, 2)
    planes = np.stack([green, (red - green) % 256, (blue - green) % 256])
    rest = planes.copy()
    for i, j in np.ndindex(32, 32):
        if i and j:
            a, b, c = planes[..., i, j - 1], planes[..., i - 1, j], planes[..., i - 1, j - 1]
            rest[..., i, j] -= np.median(np.stack([a, b, a + b - c]), axis=0).astype(np.int64)
        elif i or j:
            rest[..., i, j] -= planes[..., i - 1, 0] if i else planes[..., 0, j - 1]
    return (rest % 256).astype(np.uint8)


class Digits(BaseDataModule):
    """Ten one-vs-rest tasks on 8 x 8 images."""

    def _initialize(self):
        images, digit = load_digits(return_X_y=True)
        names = [f"digit {k}" for k in range(10)]
        self._use_arrays(images[:400] / 16, np.eye(10)[digit[:400]], names)


class DigitsModel(BaseModel):
    """Every abstract method of the paper's figure 12, filled in by hand."""

    def __init__(self, task_ids):
        super().__init__(task_ids)
        self._model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, len(task_ids)))

    def _intialize_metrics_generator(self):
        self._metrics = [BinaryMetrics(len(self._task_ids)) for _ in range(3)]

    def get_task_output(self, batch_outputs, task_id):
        return batch_outputs[:, task_id]

    def get_probabilities_true_target(self, outputs, targets):
        return 1 - (targets - outputs.sigmoid()).abs()

    def initialize_losses(self):
        self._losses = [nn.BCEWithLogitsLoss() for _ in self._task_ids]


@pytest.fixture(scope="module")
def digits() -> Digits:
    return Digits()


def arguments(folder: Path, **changes: object) -> dict[str, object]:
    return {
        "lr": 1e-2,
        "num_of_epochs": 3,
        "batch_size": 32,
        "base_dir": folder,
        "checkpoint_enable": False,
        "device": "cpu",
        **changes,
    }


def trained(data: BaseDataModule, folder: Path, *, start: int = 0, **options: object) -> Trainer:
    torch.manual_seed(start)
    model = DigitsModel(data.get_task_ids())
    trainer = Trainer(model, data, args=arguments(folder), **options)
    trainer.train()
    return trainer


def test_both_listings_run_as_printed(tmp_path: Path) -> None:
    write_cifar100(tmp_path)
    given = {
        "C100DataModule(...)": "C100DataModule(data_root)",
        "C100Model(...)": "C100Model(data_module.get_task_ids())",
        "args=args, ...": "args=args, epochs_data_map=[2, 3]",
        "n_clusters, ...": "n_clusters",
        "cluster(...)": "cluster()",
    }
    code = LISTING_1 + LISTING_2
    for printed, said in given.items():
        assert printed in code
        code = code.replace(printed, said)
    assert "..." not in code
    names = {
        "C100DataModule": C100DataModule,
        "C100Model": C100Model,
        "Trainer": Trainer,
        "DatamapTaskClustering": DatamapTaskClustering,
        "data_root": tmp_path,
        "args": arguments(tmp_path, lr=1e-3, batch_size=16),
        "n_clusters": 2,
    }
    exec(compile(code, "appendix B", "exec"), names)
    rows = names["data_module"].tensors()["train"][0]
    assert names["dm_mtl"].shape == (6, 2, len(rows), 2)
    weights = names["mtl_task_weights"]
    assert weights.shape == (6, 2)
    torch.testing.assert_close(weights.sum(1), torch.ones(6, dtype=torch.float64))
    torch.testing.assert_close(names["cluster_estimator"].get_task_membership(), weights)


def test_data_map_is_that_of_our_recorder(digits: Digits, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = DigitsModel(digits.get_task_ids())
    same = copy.deepcopy(model._model)
    theirs = Trainer(model, digits, args=arguments(tmp_path), epochs_data_map=[2, 3])
    theirs.train()

    tasks = [Task(name, Binary()) for name in digits.get_task_names()]
    parts = {
        part: Split(x, {t.name: y[:, k].long() for k, t in enumerate(tasks)}, tasks)
        for part, (x, y) in digits.tensors().items()
    }
    ours = OurRecorder(epochs=(2, 3), deviation="sample")
    OurTrainer(
        Problem(name="digits", **parts),
        CustomArchitecture(module=same, tasks=tasks),
        balancer=FixedWeights(values=[1.0] * 10),
        settings=TrainingSettings(
            epochs=3, batch_size=32, learning_rate=1e-2, patience=None, clip_norm=None, device="cpu"
        ),
        optimizer=lambda groups: torch.optim.Adam(
            [p for g in groups for p in g["params"]], lr=0.01
        ),
        observers=(ours,),
    ).fit()
    found = theirs.get_data_map()
    assert found.shape == (10, 2, len(digits.tensors()["train"][0]), 2)
    torch.testing.assert_close(found, ours.data_map().values, rtol=1e-5, atol=1e-6)


def test_recorder_by_hand() -> None:
    recorder = DataMapRecorder(num_tasks=2, num_points=3)
    recorder.update(torch.tensor([[0.2, 0.5], [0.4, 0.1]]), torch.tensor([2, 0]))
    recorder.update(torch.tensor([[0.6, 0.5]]), torch.tensor([2]))
    found = recorder.get_data_map()
    assert found.shape == (2, 3, 2)
    torch.testing.assert_close(found[:, 2, 0], torch.tensor([0.4, 0.5]))
    torch.testing.assert_close(found[:, 2, 1], torch.tensor([0.08**0.5, 0.0]))  # sum / (2 - 1)
    assert found[:, 1].isnan().all()
    recorder.reset()
    assert recorder.get_data_map().isnan().all()
    population = DataMapRecorder(1, 1, deviation="population")
    for value in (0.2, 0.6):
        population.update(torch.tensor([[value]]), torch.tensor([0]))
    torch.testing.assert_close(population.get_data_map()[0, 0], torch.tensor([0.4, 0.2]))
    with pytest.raises(ValueError, match="deviation"):
        DataMapRecorder(1, 1, deviation="other")


@pytest.mark.parametrize("weighted", [False, True])
def test_specialised_model_minimises_the_weighted_sum(
    digits: Digits, tmp_path: Path, weighted: bool
) -> None:
    """Equation 3, against a loop in plain PyTorch over the same batches."""
    weights = torch.linspace(0, 1, 10, dtype=torch.float64) if weighted else None
    torch.manual_seed(0)
    model = DigitsModel(digits.get_task_ids())
    by_hand = copy.deepcopy(model)
    trainer = Trainer(model, digits, args=arguments(tmp_path), task_weights=weights)
    trainer.train()

    x, y = digits.tensors()["train"]
    loader = BatchLoader(trainer._trainer.problem.train, batch_size=32, seed=0)
    optimizer = torch.optim.Adam(by_hand.parameters(), lr=1e-2)
    for _ in range(3 * loader.steps_per_epoch):
        rows = loader.draw().indices
        loss = nn.functional.binary_cross_entropy_with_logits(
            by_hand(x[rows]), y[rows], reduction="none"
        ).mean(0)
        optimizer.zero_grad()
        (loss if weights is None else loss * weights.float()).sum().backward()
        optimizer.step()
    for found, expected in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_ensemble_is_the_weighted_mean_of_probabilities(digits: Digits, tmp_path: Path) -> None:
    shares = torch.rand(10, 2, dtype=torch.float64) + 0.1
    shares /= shares.sum(1, keepdim=True)
    experts = [trained(digits, tmp_path, start=j, task_weights=shares[:, j]) for j in range(2)]
    found = experts[0].evaluate_ensemble(experts, shares, on="test")
    x, y = digits.tensors()["test"]
    with torch.no_grad():
        outputs = [expert.model(x).sigmoid() for expert in experts]
    mixed = shares[:, 0].float() * outputs[0] + shares[:, 1].float() * outputs[1]
    check_scores(found, mixed, y, digits.get_task_names())
    check_scores(experts[1].evaluate("test"), outputs[1], y, digits.get_task_names())
    alike = experts[0].evaluate_ensemble([expert.model for expert in experts])
    check_scores(alike, (outputs[0] + outputs[1]) / 2, y, digits.get_task_names())
    assert all(expert.model.training for expert in experts)  # as it was before
    with pytest.raises(ValueError, match="one column per model"):
        experts[0].evaluate_ensemble(experts, torch.ones(10, 3))
    with pytest.raises(ValueError, match="'holdout'"):
        experts[0].evaluate("holdout")


def check_scores(found, probability, targets, names) -> None:
    assert list(found) == list(names)
    for k, name in enumerate(names):
        predicted = (probability[:, k] > 0.5).long().numpy()
        scored = metrics.Scored(predicted, targets[:, k].long().numpy())
        assert set(found[name]) == {"f1", "accuracy", "balanced_accuracy"}
        for metric, value in found[name].items():
            expected = metrics.by_name(metric)(scored)
            assert value == pytest.approx(expected, rel=1e-6, nan_ok=True)


def test_history_and_last_parameters(digits: Digits, tmp_path: Path) -> None:
    trainer = trained(digits, tmp_path)
    assert [record["epoch"] for record in trainer.history] == [1, 2, 3]
    assert trainer.history[-1]["validation"] == trainer.evaluate("validation")
    first, last = (record["train"]["digit 0"]["accuracy"] for record in trainer.history[::2])
    assert last > first


def test_resumed_training_equals_an_uninterrupted_one(digits: Digits, tmp_path: Path) -> None:
    runs = []
    for name, lengths in (("whole", (5,)), ("parts", (2, 5))):
        for epochs in lengths:
            torch.manual_seed(0)
            model = BinaryModel(
                digits.get_task_ids(),
                nn.Sequential(nn.Linear(64, 16), nn.Dropout(0.2), nn.Linear(16, 10)),
                digits.get_imbalance_weights(),
            )
            args = arguments(tmp_path / name, num_of_epochs=epochs, checkpoint_enable=True)
            trainer = Trainer(model, digits, args=args)
            trainer.train(resume=True)
        runs.append(trainer)
    whole, parts = runs
    assert list((tmp_path / "parts" / "checkpoints").iterdir())
    torch.testing.assert_close(parts.get_data_map(), whole.get_data_map(), rtol=0, atol=0)
    assert parts.history == whole.history
    for found, expected in zip(parts.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    with pytest.raises(ValueError, match="resume=True"):
        Trainer(DigitsModel(range(10)), digits, args=arguments(tmp_path)).train(resume=True)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"lr": None}, {}, "lacks the key 'lr'"),
        ({"checkpoint_enable": None}, {}, "lacks the key 'checkpoint_enable'"),
        ({"learning_rate": 0.1}, {}, "unknown key 'learning_rate'"),
        ({"num_of_epochs": 0}, {}, "`num_of_epochs` must be at least 1"),
        ({"batch_size": 0}, {}, "`batch_size` must be at least 1"),
        ({"checkpoint_enable": True, "base_dir": ""}, {}, "`base_dir` must be a folder"),
        ({}, {"epochs_data_map": [0, 2]}, "from 1 to `num_of_epochs`"),
        ({}, {"epochs_data_map": [4]}, "found 4"),
        ({}, {"epochs_data_map": [1, 2]}, "no sample deviation"),
        ({}, {"task_weights": torch.ones(3)}, "`task_weights` must be 10, found 3"),
    ],
)
def test_bad_arguments(digits, tmp_path, changes, options, message) -> None:
    args = {k: v for k, v in arguments(tmp_path, **changes).items() if v is not None}
    with pytest.raises(ValueError, match=message):
        Trainer(DigitsModel(digits.get_task_ids()), digits, args=args, **options)


def test_first_epoch_has_a_population_deviation(digits: Digits, tmp_path: Path) -> None:
    trainer = trained(digits, tmp_path, epochs_data_map=[1, 3], deviation="population")
    assert (trainer.get_data_map()[:, 0, :, 1] == 0).all()
    with pytest.raises(ValueError, match="no data map yet"):
        Trainer(DigitsModel(range(10)), digits, args=arguments(tmp_path)).get_data_map()


def test_abstract_classes_cannot_be_made() -> None:
    for abstract, given in (
        (BaseModel, ((0,),)),
        (BaseMetrics, (1,)),
        (BaseDataModule, ()),
        (BaseDataset, (torch.zeros(3), (0,))),
    ):
        with pytest.raises(TypeError, match="abstract"):
            abstract(*given)


def test_incomplete_subclasses_are_named(digits: Digits, tmp_path: Path) -> None:
    class Empty(BaseDataModule):
        def _initialize(self):
            self._task_names = ("a",)

    with pytest.raises(ValueError, match=r"Empty\._initialize must set `_data_train`"):
        Empty().tensors()

    class NoNetwork(DigitsModel):
        def __init__(self, task_ids):
            BaseModel.__init__(self, task_ids)

    with pytest.raises(ValueError, match=r"NoNetwork must set `self\._model`"):
        NoNetwork(range(10))(torch.zeros(2, 64))
    with pytest.raises(ValueError, match="the model's losses must be 10, found 9"):
        Trainer(DigitsModel(range(9)), digits, args=arguments(tmp_path))
    with pytest.raises(ValueError, match="one weight per task"):
        BinaryModel((0, 1), nn.Identity(), [1.0])
    with pytest.raises(ValueError, match="There are no validation rows"):
        Digits(train_val_test_split=(0.8, 0.0, 0.2)).tensors()
    with pytest.raises(ValueError, match="positions below 10"):
        Digits(task_ids=[3, 10])


class Parity(BaseDataModule):
    """The digit and whether it is odd, by a data set of one's own that counts from the end."""

    def _initialize(self):
        self._task_names = ("digit", "odd")
        images, digit = load_digits(return_X_y=True)
        parts = [(images[a:b], digit[a:b]) for a, b in ((0, 300), (300, 350), (350, 400))]
        self._data_train, self._data_val, self._data_test = (Labelled(p, (0, 1)) for p in parts)


class Labelled(BaseDataset):
    def __len__(self):
        return len(self._data[1])

    def __getitem__(self, index):
        place = len(self) - 1 - index
        image, digit = (values[place] for values in self._data)
        return index, torch.tensor(image / 16).float(), torch.tensor([digit, digit % 2])


class ParityModel(DigitsModel):
    """A task of ten classes beside one of two."""

    def __init__(self, task_ids):
        super().__init__(task_ids)
        self._model = nn.Linear(64, 11)

    def _intialize_metrics_generator(self):
        self._metrics = [ParityMetrics(2) for _ in range(3)]

    def get_task_output(self, batch_outputs, task_id):
        return batch_outputs[:, :10] if task_id == 0 else batch_outputs[:, 10]

    def get_probabilities_true_target(self, outputs, targets):
        digit = outputs[:, :10].softmax(1).gather(1, targets[:, :1].long())
        odd = 1 - (targets[:, 1:] - outputs[:, 10:].sigmoid()).abs()
        return torch.cat([digit, odd], dim=1)

    def initialize_losses(self):
        self._losses = [
            nn.CrossEntropyLoss(),
            lambda output, target: (output.sigmoid() - target).square().mean(),
        ]


class ParityMetrics(BaseMetrics):
    def initialize(self):
        self._right, self._count = torch.zeros(2), 0

    def update_metrics_iteration(self, results, targets, ensemble_weights=None):
        answers = torch.stack([results[:, :10].argmax(1), (results[:, 10] > 0).long()], 1)
        self._right += (answers == targets).sum(0)
        self._count += len(targets)

    def compute_metrics_epoch(self):
        self._share = self._right / self._count

    def get_metrics(self):
        return [self._share]

    def get_metric_names(self):
        return ["share right"]


def test_new_tasks_take_two_subclasses(tmp_path: Path) -> None:
    """With losses, classes and metrics of one's own; rows come back in the order of the index."""
    data = Parity()
    x, y = data.tensors()["train"]
    images, digit = load_digits(return_X_y=True)
    torch.testing.assert_close(x, torch.from_numpy(images[299::-1] / 16).float())
    assert y[:, 0].tolist() == digit[299::-1].tolist()
    torch.manual_seed(0)
    model = ParityModel(data.get_task_ids())
    by_hand = copy.deepcopy(model)
    trainer = Trainer(model, data, args=arguments(tmp_path, batch_size=300, num_of_epochs=20))
    trainer.train()
    assert trainer.evaluate("validation")["digit"]["share right"] > 0.8
    assert trainer.get_data_map().shape == (2, 1, 300, 2)

    optimizer = torch.optim.Adam(by_hand.parameters(), lr=1e-2)
    confidences = []
    for _ in range(20):
        outputs = by_hand(x)
        digit_loss, odd_loss = by_hand.get_losses()
        optimizer.zero_grad()
        loss = digit_loss(outputs[:, :10], y[:, 0].long()) + odd_loss(outputs[:, 10], y[:, 1])
        loss.backward()
        optimizer.step()
        confidences.append(by_hand.get_probabilities_true_target(outputs, y).detach())
    deviation, mean = torch.std_mean(torch.stack(confidences), dim=0)
    torch.testing.assert_close(
        trainer.get_data_map()[:, 0], torch.stack([mean, deviation], -1).transpose(0, 1),
        rtol=1e-3, atol=1e-4,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("index", "message"), [(torch.arange(9), "9 rows"), (torch.zeros(10).long(), "every index")]
)
def test_loaders_that_leave_rows_out_are_refused(index, message) -> None:
    class Short(Digits):
        def get_train_dataloader(self, batch_size, shuffle=True):
            return [(index + 1, torch.zeros(len(index), 64), torch.zeros(len(index), 10))]

    with pytest.raises(
        ValueError, match=f"train loader must give every index.*{message}|{message}"
    ):
        Short().tensors()


def test_labels_that_are_no_classes_are_refused(tmp_path: Path) -> None:
    class Halves(BaseDataModule):
        def _initialize(self):
            x = np.random.default_rng(0).normal(size=(60, 4))
            self._task_names = ("half",)
            self._data_train = self._data_val = self._data_test = ArrayDataset(
                torch.from_numpy(x).float(), (0,), torch.full((60, 1), 0.5)
            )

    model = BinaryModel((0,), nn.Linear(4, 1))
    with pytest.raises(ValueError, match="train labels must be classes"):
        Trainer(model, Halves(), args=arguments(tmp_path))


def test_memberships_are_those_of_the_clustering() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.rand(3, 2, 20, 2, generator=generator)
    maps = centres.repeat_interleave(4, 0) + 0.02 * torch.randn(12, 2, 20, 2, generator=generator)
    points = maps.flatten(1).double()
    means = torch.stack([points[k : k + 4].mean(0) for k in (0, 4, 8)])
    for fuzzifier in (2.0, 1.07):
        found = DatamapTaskClustering(maps, 3).cluster(fuzzifier)
        expected = memberships(points, means, fuzzifier)
        order = found[::4].argmax(1)  # groups are numbered as they come
        torch.testing.assert_close(found[:, order], expected, rtol=1e-6, atol=1e-9)
    hard = DatamapTaskClustering(maps, 3, ClusteringType.KMEANS).cluster()
    assert (hard[:, hard[::4].argmax(1)] == torch.eye(3).repeat_interleave(4, 0)).all()
    soft = DatamapTaskClustering(maps, 3, ClusteringType.FUZZY_ITERATIVE).cluster()
    fuzzy = FuzzyKMeans(3).fit(points)
    torch.testing.assert_close(
        soft[:, soft[::4].argmax(1)], fuzzy.fmm_[:, fuzzy.fmm_[::4].argmax(1)], rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(
        fuzzy.compute_membership(points, fuzzy.cluster_centers_), fuzzy.fmm_, rtol=1e-3, atol=1e-4
    )
    votes = DatamapTaskClustering(maps, 3, ClusteringType.POINT_BASED).cluster()
    torch.testing.assert_close(votes, point_votes(points, 3)[0])


def test_bad_data_maps_and_the_figure(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\[T, E, N, 2\]"):
        DatamapTaskClustering(torch.zeros(3, 5, 2), 2)
    early = torch.rand(3, 1, 5, 2)
    early[..., 1] = torch.nan
    with pytest.raises(ValueError, match="two epochs"):
        DatamapTaskClustering(early, 2)
    with pytest.raises(ValueError, match="n_clusters"):
        DatamapTaskClustering(torch.rand(3, 1, 5, 2), 0)
    estimator = DatamapTaskClustering(torch.rand(3, 1, 5, 2), 2, task_names=["a", "b", "c"])
    with pytest.raises(ValueError, match="cluster"):
        estimator.get_task_membership()
    shares = estimator.cluster()
    for transpose in (False, True):
        figure = estimator.plot_membership(transpose, save_path=tmp_path / "shares.png")
        (axes,) = figure.axes
        written = [text.get_text() for text in axes.texts]
        cells = shares.T if transpose else shares
        assert written == [f"{share:.2f}" for share in cells.flatten().tolist()]
        labels = axes.get_xticklabels() if transpose else axes.get_yticklabels()
        assert [label.get_text() for label in labels] == ["a", "b", "c"]
    assert (tmp_path / "shares.png").stat().st_size > 0
    other = estimator.plot_membership(title="equal", t_membership=torch.full((3, 2), 0.5))
    assert other.axes[0].get_title() == "equal"


def test_networks_have_the_published_sizes() -> None:
    for network, expected in (("cnn", 472_612), ("resnet18", 11_227_712)):
        model = C100Model(range(100), network=network)
        assert sum(p.numel() for p in model.parameters()) == expected
    with pytest.raises(ValueError, match="'vgg'"):
        C10Model(range(10), network="vgg")


def test_shards_plain_and_packed(tmp_path: Path) -> None:
    modules = []
    for name, packed in (("plain", False), ("packed", True)):
        (tmp_path / name).mkdir()
        images = write_cifar100(tmp_path / name, packed=packed)
        modules.append(C100DataModule(tmp_path / name, task_ids=[4, 1]))
        for shard, expected in images.items():
            np.testing.assert_array_equal(_read_images(tmp_path / name, shard), expected)
    plain, packed = (module.tensors() for module in modules)
    assert modules[0].get_task_names() == ("elm", "bear")
    assert {part: len(x) for part, (x, _) in plain.items()} == {
        "train": 66, "validation": 6, "test": 12
    }  # fmt: skip
    for part, (x, y) in plain.items():
        assert x.dtype == torch.uint8
        assert x.shape[1:] == (3, 32, 32)
        assert torch.equal(x, packed[part][0])
        assert torch.equal(y, packed[part][1])
    classes = np.load(tmp_path / "plain" / "labels.npz")["test_a_fine"]
    np.testing.assert_array_equal(plain["test"][1][:, 0].numpy(), classes == 4)
    np.testing.assert_array_equal(plain["test"][0].numpy(), images["test_a"].transpose(0, 3, 1, 2))
    (tmp_path / "plain" / "test_a.npy").unlink()
    with pytest.raises(ValueError, match="no test"):
        C100DataModule(tmp_path / "plain")
    with pytest.raises(ValueError, match=r"neither labels\.npz nor train\.bin"):
        C100DataModule(tmp_path)


def test_real_shard(shared: Path) -> None:
    folder = shared / "data" / "cifar10"
    images = _read_images(folder, "test_a")
    assert images.shape == (2000, 32, 32, 3)
    means = images.reshape(-1, 3).mean(0) / 255
    np.testing.assert_allclose(means, (0.4914, 0.4822, 0.4465), atol=0.012)  # of the whole set


@pytest.mark.parametrize("which", ["10", "100"])
def test_official_binary_version(tmp_path: Path, which: str) -> None:
    generator = np.random.default_rng(0)
    classes = {"train": np.tile(np.arange(5), 20), "test": np.tile(np.arange(5), 2)}
    pixels = {part: generator.integers(0, 256, (len(c), 3072)) for part, c in classes.items()}
    rows = {
        part: np.column_stack([*([c // 2] if which == "100" else []), c, pixels[part]])
        for part, c in classes.items()
    }
    if which == "100":
        files, names, module = {"train.bin": rows["train"]}, "fine_label_names.txt", C100DataModule
        files["test.bin"] = rows["test"]
    else:
        files = {f"data_batch_{k + 1}.bin": rows["train"][20 * k : 20 * k + 20] for k in range(5)}
        files["test_batch.bin"] = rows["test"]
        names, module = "batches.meta.txt", C10DataModule
    for name, content in files.items():
        content.astype(np.uint8).tofile(tmp_path / name)
    (tmp_path / names).write_text("\n".join(NAMES[:5]) + "\n\n", encoding="utf-8")
    data = module(tmp_path)
    x, y = data.tensors()["test"]
    np.testing.assert_array_equal(x.flatten(1).numpy(), pixels["test"])
    np.testing.assert_array_equal(y.argmax(1).numpy(), classes["test"])
    assert data.get_task_names() == NAMES[:5]
    assert data.get_imbalance_weights() == (4.0,) * 5


def test_celeba(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (60, 12, 10, 3)).astype(np.uint8)
    signs = np.where(generator.random((70, 3)) < 0.5, 1, -1)
    files = [f"{k + 1:06d}.jpg" for k in range(70)]
    lines = [f"{f}  {' '.join(map(str, row))}" for f, row in zip(files, signs, strict=True)]
    header = ["70", "Bald Smiling Young"]
    (tmp_path / "list_attr_celeba.txt").write_text("\n".join([*header, *lines]) + "\n")
    np.save(tmp_path / "images.npy", images)
    drawn = CelebADataModule(tmp_path, task_ids=[1, 2])
    assert [len(x) for x, _ in drawn.tensors().values()] == [42, 6, 12]
    parts = [f"{f} {k // 20}" for k, f in enumerate(files)]
    (tmp_path / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")
    given = CelebADataModule(tmp_path, task_ids=[1, 2])
    x, y = given.tensors()["validation"]
    np.testing.assert_array_equal(x.numpy(), images[20:40].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(y.numpy(), signs[20:40, 1:] > 0)
    assert given.get_task_names() == ("Smiling", "Young")
    model = CelebAModel(given.get_task_ids(), image_size=(12, 10))
    Trainer(model, given, args=arguments(tmp_path, num_of_epochs=1)).train()
    np.save(tmp_path / "images.npy", np.zeros((80, 12, 10, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="80 images but"):
        CelebADataModule(tmp_path)


def test_how_to_runs_and_prints_the_listings(root: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = root / "docs" / "howto" / "stg_listings.md"
    code = "\n".join(blocks(page, "python"))
    for line in textwrap.dedent(LISTING_1 + LISTING_2).splitlines():
        call = line.partition("=")[0].strip() if "(" in line else ""
        assert call in code, line
    names: dict[str, object] = {}
    exec(compile(code, "howto/stg_listings.md", "exec"), names)
    assert set(names["scores"]) == set(names["data_module"].get_task_names())
