"""Tasks and kinds: losses by hand, encodings that come back, missing labels, blocks, checks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from polytask.tasks import (
    Binary,
    Depth,
    Multiclass,
    Normals,
    Regression,
    Segmentation,
    Task,
    TaskTensors,
    TokenSequence,
    check_unique_names,
    group_into_blocks,
    metrics,
)
from polytask.tasks.losses import squared_hinge

KINDS = [
    Regression(),
    Regression(size=3),
    Binary(),
    Multiclass(4),
    Segmentation(3),
    Depth(),
    Normals(),
    TokenSequence(5),
]


def example(kind, rows=6):
    """Outputs and complete targets of a kind."""
    generator = torch.Generator().manual_seed(1)
    shapes = {1: (), 2: (7,), 3: (4, 4)}
    trailing = shapes[kind.output_dims]
    if isinstance(kind, TokenSequence):
        output = torch.randn(rows, 7, kind.output_size, generator=generator)
    else:
        output = torch.randn(rows, kind.output_size, *trailing, generator=generator)
    if kind.is_categorical:
        shape = (rows, *trailing)
        high = 2 if isinstance(kind, Binary) else kind.output_size
        return output, torch.randint(0, high, shape, generator=generator)
    if isinstance(kind, Depth):
        return output, torch.rand(rows, 4, 4, generator=generator)
    if isinstance(kind, Normals):
        return output, functional.normalize(torch.randn(rows, 3, 4, 4, generator=generator), dim=1)
    shape = (rows,) if kind.size == 1 else (rows, kind.size)
    return output, torch.randn(shape, generator=generator)


# --- losses --------------------------------------------------------------------------------------


def test_losses_by_hand():
    assert Regression().loss(torch.tensor([[3.0]]), torch.tensor([1.0])).item() == 4.0
    vector = Regression(size=2).loss(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 1.0]]))
    assert vector.item() == pytest.approx((1 + 4) / 2)
    assert Binary().loss(torch.tensor([[0.0]]), torch.tensor([1])).item() == pytest.approx(
        math.log(2)
    )
    assert Multiclass(4).loss(torch.zeros(1, 4), torch.tensor([2])).item() == pytest.approx(
        math.log(4)
    )


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_loss_is_one_finite_number_per_example(kind):
    output, target = example(kind)
    loss = kind.loss(output, target)
    assert loss.shape == (6,)
    assert torch.isfinite(loss).all()
    assert (loss >= 0).all()


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_loss_works_on_blocks_and_ensemble_members(kind):
    output, target = example(kind)
    block_output, block_target = output.unsqueeze(1), target.unsqueeze(1)
    members = torch.stack([block_output, block_output])
    expected = kind.loss(output, target)
    torch.testing.assert_close(kind.loss(block_output, block_target)[:, 0], expected)
    torch.testing.assert_close(kind.loss(members, block_target)[1, :, 0], expected)


@pytest.mark.parametrize("kind", [Segmentation(3), TokenSequence(5)], ids=repr)
def test_dense_classes_agree_with_cross_entropy_over_labelled_places(kind):
    output, target = example(kind)
    target = target.clone()
    target[:, 0] = -1
    channels = output if isinstance(kind, Segmentation) else output.movedim(-1, 1)
    for row in range(len(target)):
        expected = functional.cross_entropy(
            channels[row : row + 1], target[row : row + 1], ignore_index=-1
        )
        assert kind.loss(output, target)[row].item() == pytest.approx(expected.item(), rel=1e-5)


def test_depth_and_normals_leave_unlabelled_pixels_out():
    depth = torch.full((1, 2, 2), float("nan"))
    depth[0, 0, 0] = 3.0
    assert Depth().loss(torch.ones(1, 1, 2, 2), depth).item() == pytest.approx(2.0)
    normals = torch.zeros(1, 3, 1, 2)
    normals[:, 0] = 1.0
    normals[0, :, 0, 1] = float("nan")
    assert Normals().loss(-normals.nan_to_num(), normals).item() == pytest.approx(2.0)


def test_class_weights_scale_the_loss_of_their_class():
    output, target = torch.tensor([[0.3], [0.3]]), torch.tensor([0, 1])
    plain = Binary().loss(output, target)
    weighed = Binary().loss(output, target, torch.tensor([1.0, 5.0]))
    torch.testing.assert_close(weighed, plain * torch.tensor([1.0, 5.0]))
    positive = functional.binary_cross_entropy_with_logits(
        output[:, 0], target.float(), pos_weight=torch.tensor(5.0), reduction="none"
    )
    torch.testing.assert_close(weighed, positive)
    output, target = torch.randn(4, 3), torch.tensor([0, 1, 2, 1])
    weights = torch.tensor([1.0, 2.0, 3.0])
    expected = functional.cross_entropy(output, target, weight=weights, reduction="none")
    torch.testing.assert_close(Multiclass(3).loss(output, target, weights), expected)


# --- predictions and encodings -------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_predictions_and_probabilities_fit_the_target(kind):
    output, target = example(kind)
    assert kind.predict(output).shape == target.shape
    probabilities = kind.probabilities(output)
    if not kind.is_categorical:
        assert probabilities is None
        return
    torch.testing.assert_close(probabilities.sum(-1), torch.ones_like(target, dtype=torch.float32))
    assert torch.equal(probabilities.argmax(-1), kind.predict(output))


def test_regression_is_standardised_and_comes_back():
    kind = Regression(mean=10.0, scale=4.0)
    values = np.array([2.0, 10.0, np.nan])
    encoded = kind.encode(values)
    assert encoded.dtype == np.float32
    np.testing.assert_allclose(encoded, [-2.0, 0.0, np.nan])
    np.testing.assert_allclose(kind.decode(encoded), values)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Binary(("no", "yes")), ["yes", "no", "yes"]),
        (Multiclass(3, ("a", "ö", "<b>")), ["<b>", "a", "ö"]),
        (Multiclass(3), [2, 0, 1]),
    ],
)
def test_labels_come_back(kind, values):
    encoded = kind.encode(np.array(values, dtype=object))
    assert encoded.dtype == np.int64
    assert kind.decode(encoded).tolist() == values
    assert kind.encode(np.array(["no such label"], dtype=object)).tolist() == [-1]


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_missing_targets_are_found(kind):
    _, target = example(kind)
    assert not kind.missing(target).any()
    target = target.clone()
    target[2] = -1 if kind.is_categorical else float("nan")
    assert kind.missing(target).tolist() == [False, False, True, False, False, False]


def test_a_partly_labelled_image_is_not_missing():
    target = torch.full((1, 4, 4), -1)
    target[0, 0, 0] = 2
    assert Segmentation(3).missing(target).tolist() == [False]


# --- tasks ---------------------------------------------------------------------------------------


def test_score_is_in_the_users_units_and_skips_missing_labels():
    task = Task("price", Regression(mean=100.0, scale=10.0))
    output = torch.tensor([[0.0], [1.0], [99.0]])
    target = torch.tensor([0.5, 0.0, float("nan")])
    score = task.score(output, target)
    assert score["rmse"] == pytest.approx(math.sqrt((5**2 + 10**2) / 2))
    assert score["mae"] == pytest.approx(7.5)
    assert next(iter(score)) == task.metric.name == "rmse"


def test_score_without_labels_is_nan():
    task = Task("sold", Binary())
    score = task.score(torch.zeros(2, 1), torch.tensor([-1, -1]))
    assert all(math.isnan(value) for value in score.values())


def test_a_task_may_replace_parts_of_its_kind():
    task = Task(
        "y",
        Regression(),
        loss=lambda output, target: (output.squeeze(-1) - target).abs(),
        prediction=lambda output: output.squeeze(-1).round(),
        metrics=(metrics.MAE,),
    )
    assert task.metric is metrics.MAE
    assert task.predict(torch.tensor([[1.7]])).item() == 2.0
    assert task.score(torch.tensor([[1.7]]), torch.tensor([1.0])) == {"mae": 1.0}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Task("", Regression()), "non-empty name"),
        (lambda: Binary(("a", "a")), "two different labels"),
        (lambda: Multiclass(1), "at least 2 classes"),
        (lambda: Multiclass(3, ("a", "b")), "3 different labels"),
        (lambda: Segmentation(1), "at least 2 classes"),
        (lambda: TokenSequence(1), "at least 2"),
        (lambda: Regression(size=0), "must be >= 1"),
        (lambda: Regression(scale=0.0), "scale > 0"),
        (lambda: Regression(mean=float("nan")), "finite mean"),
        (lambda: Task("y", Binary(), class_weights=(1.0,)), "one weight per class"),
        (lambda: Task("y", Binary(), class_weights=(1.0, -1.0)), "must be positive"),
        (lambda: Task("y", Regression(), class_weights=(1.0, 1.0)), "Binary or Multiclass"),
        (lambda: check_unique_names([Task("y", Binary()), Task("y", Binary())]), "'y' twice"),
    ],
)
def test_bad_arguments_say_what_is_expected(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_kind_must_be_a_kind():
    with pytest.raises(TypeError, match="must be a Kind such as Regression"):
        Task("y", "regression")


# --- blocks --------------------------------------------------------------------------------------


def test_homogeneous_tasks_form_one_block():
    tasks = [
        Task("a", Binary(("no", "yes"))),
        Task("b", Regression(mean=1.0)),
        Task("c", Binary((0, 1)), class_weights=(1.0, 3.0)),
        Task("d", Multiclass(3)),
        Task("e", Regression(scale=2.0)),
        Task("f", Multiclass(4)),
        Task("g", Binary(), loss=lambda output, target: output.squeeze(-1)),
    ]
    names = [[task.name for task in block] for block in group_into_blocks(tasks)]
    assert names == [["a", "c"], ["b", "e"], ["d"], ["f"], ["g"]]


def test_task_tensors_yield_views_of_their_blocks():
    block = torch.arange(6.0).reshape(2, 3)
    tensors = TaskTensors([(("a", "b", "c"), block), (("d",), torch.ones(2, 1, 4))])
    assert list(tensors) == ["a", "b", "c", "d"]
    assert len(tensors) == 4
    assert tensors["b"].tolist() == [1.0, 4.0]
    assert tensors["b"].data_ptr() == block[:, 1].data_ptr()
    assert tensors["d"].shape == (2, 4)
    kept = tensors.select(["d", "a", "c"])
    assert list(kept) == ["a", "c", "d"]
    assert kept["c"].tolist() == [2.0, 5.0]
    assert tensors.map(lambda t: -t)["c"].tolist() == [-2.0, -5.0]


def test_task_tensors_of_ensemble_members():
    block = torch.randn(3, 2, 2)
    tensors = TaskTensors([(("a", "b"), block)], members=3)
    assert torch.equal(tensors["b"], block[:, :, 1])
    assert torch.equal(tensors.select(["b"])["b"], block[:, :, 1])


def test_task_tensors_from_plain_tensors():
    tensors = TaskTensors.from_mapping({"a": torch.ones(2, 3), "b": torch.zeros(2)})
    assert tensors["a"].shape == (2, 3)
    assert tensors["b"].shape == (2,)
    assert TaskTensors.from_mapping(tensors) is tensors


def test_probabilities_of_a_weighted_task_are_frequencies():
    """The weighted loss of 10 % positives with weight 9 is least at odds 9 * 0.1 / 0.9 = 1."""
    task = Task("rare", Binary(), class_weights=(1.0, 9.0))
    target = torch.tensor([1] + [0] * 9)
    logit = torch.zeros(10, 1, requires_grad=True)
    weights = torch.tensor(task.class_weights)
    task.kind.loss(logit, target, weights).mean().backward()
    assert logit.grad.sum().abs() < 1e-6
    found = task.probabilities(logit.detach())
    torch.testing.assert_close(found, torch.tensor([[0.9, 0.1]]).expand(10, 2))
    entropy = -(0.1 * math.log(0.1) + 0.9 * math.log(0.9))
    assert task.score(logit.detach(), target)["log_loss"] == pytest.approx(entropy, rel=1e-5)
    assert task.predict(torch.tensor([[0.1], [-0.1]])).tolist() == [1, 0]
    several = Task("m", Multiclass(num_classes=3), class_weights=(1.0, 2.0, 4.0))
    torch.testing.assert_close(
        several.probabilities(torch.zeros(1, 3)), torch.tensor([[4.0, 2.0, 1.0]]) / 7
    )
    assert Task("n", Regression()).probabilities(torch.zeros(2, 1)) is None


def test_tasks_with_a_loss_of_the_user_are_not_padded_unless_it_says_so():
    few, many = Task("few", Multiclass(3)), Task("many", Multiclass(5))
    assert few.padded_key == many.padded_key
    assert few.block_key != many.block_key

    def brier(output, target):
        return (output.softmax(-1) - target.unsqueeze(-1)).square().mean(-1)

    own = [Task(t.name, t.kind, loss=brier) for t in (few, many)]
    assert own[0].padded_key != own[1].padded_key
    hinge = [Task(t.name, t.kind, loss=squared_hinge) for t in (few, many)]
    assert hinge[0].padded_key == hinge[1].padded_key
