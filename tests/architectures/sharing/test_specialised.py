"""Specialised models: equations 3 and 4, what they are in their limit cases, and files."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest
import torch
from tests.conformance.test_architectures import tabular_encoder, tabular_inputs
from torch import nn

from polytask.architectures import (
    CrossDomain,
    CustomArchitecture,
    HardSharing,
    Independent,
    SpecialisedModels,
    average_members,
    combine_outputs,
)
from polytask.candidates.records import from_record, to_record
from polytask.checks import architectures as checks
from polytask.encoders import MLP, SmallCNN
from polytask.problems import Problem, Split
from polytask.tasks import (
    Binary,
    Multiclass,
    Regression,
    Segmentation,
    Task,
    TaskTensors,
    TokenSequence,
)
from polytask.training import TaskLosses, Trainer, TrainingSettings, predict_outputs


class Constant(nn.Module):
    """The same outputs ``[B, sum of C]`` whatever the inputs; counts how often it is asked."""

    def __init__(self, outputs: torch.Tensor) -> None:
        super().__init__()
        self.outputs = nn.Parameter(outputs)
        self.calls = 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.outputs


def constant_models(outputs: torch.Tensor, tasks) -> list[CustomArchitecture]:
    """One model per entry of ``[m, B, sum of C]``."""
    return [CustomArchitecture(module=Constant(part), tasks=tasks) for part in outputs]


def regressions(count: int) -> tuple[Task, ...]:
    return tuple(Task(f"t{i}", Regression()) for i in range(count))


def small(tasks, inputs: int = 4) -> HardSharing:
    return HardSharing(encoder=MLP(input_size=inputs, widths=(8,)), tasks=tasks)


def stack(outputs, tasks) -> torch.Tensor:
    return torch.stack([outputs[task.name].squeeze(-1) for task in tasks], dim=-1)


# --- equations 3 and 4 ---------------------------------------------------------------------------


def fixture(shared):
    index = json.loads((shared / "fixtures" / "index.json").read_text())
    cases = [case for case in index["cases"] if case["method"] == "stg_ensemble"]
    assert cases
    for case in cases:
        with np.load(shared / "fixtures" / case["file"], allow_pickle=False) as arrays:
            inputs = {
                name: torch.from_numpy(arrays[entry["key"]])
                for name, entry in case["inputs"].items()
            }
            expected = {
                name: (torch.from_numpy(arrays[entry["key"]]), entry["rtol"], entry["atol"])
                for name, entry in case["outputs"].items()
            }
        yield inputs, expected


def test_the_final_output_is_that_of_the_reference(shared):
    for given, expected in fixture(shared):
        final, rtol, atol = expected["final"]
        count = final.shape[1]
        for kind, outputs in ((Regression(), given["O"]), (Binary(), torch.logit(given["O"]))):
            tasks = tuple(Task(f"t{i}", kind) for i in range(count))
            model = SpecialisedModels(
                models=constant_models(outputs, tasks), memberships=given["W"]
            ).eval()
            found = model(torch.zeros(len(final), 1))
            if isinstance(kind, Binary):
                values = [task.probabilities(found[task.name])[:, 1] for task in tasks]
            else:
                values = [found[task.name][:, 0] for task in tasks]
            torch.testing.assert_close(torch.stack(values, 1), final, rtol=rtol, atol=atol)


def test_the_weighted_losses_are_those_of_the_reference(shared):
    for given, expected in fixture(shared):
        weighted, rtol, atol = expected["WL"]
        tasks = regressions(given["W"].shape[0])
        # The squared error of an output sqrt(L) against the target 0 is L.
        models = constant_models(given["L"].sqrt().unsqueeze(1), tasks)
        rows = Split(torch.zeros(1, 1), {t.name: torch.zeros(1).double() for t in tasks}, tasks)
        batch = rows.batch(torch.arange(1))
        outputs = SpecialisedModels(models=models, memberships=given["W"])(batch.inputs)
        for j, value in enumerate(weighted):
            only = given["W"] * torch.nn.functional.one_hot(torch.tensor(j), given["W"].shape[1])
            losses = TaskLosses(tasks, member_weights=only)(outputs, batch)
            torch.testing.assert_close(losses.sum(), value, rtol=rtol, atol=atol)
        losses = TaskLosses(tasks, member_weights=given["W"])(outputs, batch)
        torch.testing.assert_close(losses.sum(), weighted.sum(), rtol=rtol, atol=atol)


def test_values_by_hand():
    tasks = regressions(2)
    outputs = torch.tensor([[[1.0, 2.0]], [[3.0, -1.0]]])
    model = SpecialisedModels(
        models=constant_models(outputs, tasks), memberships=[[0.25, 0.75], [0.5, 0.0]]
    )
    rows = Split(torch.zeros(1, 1), {"t0": torch.zeros(1), "t1": torch.zeros(1)}, tasks)
    batch = rows.batch(torch.arange(1))
    losses = TaskLosses(tasks, member_weights=model.member_weights())(model(batch.inputs), batch)
    # 0.25 * 1 + 0.75 * 9 and 0.5 * 4 + 0 * 1
    torch.testing.assert_close(losses, torch.tensor([7.0, 2.0]))
    losses.sum().backward()
    gradients = torch.stack([m.module.outputs.grad[0] for m in model.models])
    torch.testing.assert_close(gradients, torch.tensor([[0.5, 2.0], [4.5, 0.0]]))
    # Rows of memberships are divided by their sums: 0.25 * 1 + 0.75 * 3 and 2 alone.
    found = model.eval()(batch.inputs)
    torch.testing.assert_close(stack(found, tasks), torch.tensor([[2.5, 2.0]]))


def test_members_of_the_models_count_as_their_mean():
    tasks = regressions(1)
    rows = Split(torch.zeros(1, 1), {"t0": torch.zeros(1)}, tasks)
    values = torch.tensor([1.0, 3.0, 2.0, 4.0]).reshape(4, 1, 1, 1)
    losses = TaskLosses(tasks, member_weights=torch.tensor([[0.5, 0.25]]).double())(
        TaskTensors([(("t0",), values)], members=4), rows.batch(torch.arange(1))
    )
    torch.testing.assert_close(losses, torch.tensor([0.5 * (1 + 9) / 2 + 0.25 * (4 + 16) / 2]))


def test_members_that_are_no_multiple_of_the_models_are_an_error():
    tasks = regressions(1)
    rows = Split(torch.zeros(1, 1), {"t0": torch.zeros(1)}, tasks)
    outputs = TaskTensors([(("t0",), torch.zeros(3, 1, 1, 1))], members=3)
    losses = TaskLosses(tasks, member_weights=torch.tensor([[0.5, 0.5]]))
    with pytest.raises(ValueError, match="3 ensemble members, which are not those of 2 models"):
        losses(outputs, rows.batch(torch.arange(1)))


@pytest.mark.parametrize(
    "kind", [Binary(), Multiclass(num_classes=4)], ids=lambda kind: type(kind).__name__
)
@pytest.mark.parametrize("weighted", [False, True])
def test_probabilities_are_the_weighted_mean_of_the_models_own(kind, weighted):
    classes = 2 if isinstance(kind, Binary) else kind.output_size
    tasks = tuple(
        Task(
            f"t{i}",
            kind,
            class_weights=tuple(1.0 + i + c for c in range(classes)) if weighted and i else None,
        )
        for i in range(3)
    )
    models = [small(tasks).double() for _ in range(2)]
    serving = torch.tensor([[0.3, 0.7], [1.0, 0.0], [0.5, 0.5]], dtype=torch.float64)
    model = SpecialisedModels(models=models, memberships=serving).eval()
    inputs = 3 * torch.randn(6, 4, dtype=torch.float64)
    found = model(inputs)
    for t, task in enumerate(tasks):
        own = [task.probabilities(m(inputs)[task.name]) for m in models]
        expected = serving[t, 0] * own[0] + serving[t, 1] * own[1]
        torch.testing.assert_close(task.probabilities(found[task.name]), expected)


def test_far_logits_stay_finite_and_keep_their_order():
    tasks = (Task("a", Binary()),)
    outputs = torch.tensor([[[300.0], [-300.0], [80.0]], [[200.0], [-200.0], [90.0]]])
    model = SpecialisedModels(models=constant_models(outputs, tasks), memberships=[[0.5, 0.5]])
    found = model.eval()(torch.zeros(3, 1))["a"]
    assert bool(torch.isfinite(found).all())
    assert found[0] > found[2] > 0 > found[1]


def test_dense_and_sequence_classes_are_averaged_as_probabilities():
    weights = torch.tensor([0.2, 0.8])
    for kind, shape, axis in (
        (Segmentation(num_classes=3), (2, 4, 1, 3, 5, 5), -3),
        (TokenSequence(vocabulary=6), (2, 4, 1, 7, 6), -1),
    ):
        task, outputs = Task("a", kind), torch.randn(*shape)
        found = combine_outputs([task], outputs, weights.unsqueeze(0))
        expected = 0.2 * outputs[0].softmax(axis) + 0.8 * outputs[1].softmax(axis)
        torch.testing.assert_close(found.softmax(axis), expected)
        mean = average_members(task, outputs).softmax(axis)
        torch.testing.assert_close(mean, outputs.softmax(axis).mean(0))


def test_a_loss_of_the_users_is_combined_as_numbers():
    task = Task("a", Binary(), loss=lambda output, target: (output.squeeze(-1) - target).square())
    outputs = torch.tensor([[[[1.0]]], [[[4.0]]]])
    found = combine_outputs([task], outputs, torch.tensor([[0.25, 0.75]]))
    torch.testing.assert_close(found, torch.tensor([[[3.25]]]))


# --- limit cases ---------------------------------------------------------------------------------


def mixed_problem(rows: int = 80) -> Problem:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 4)).astype(np.float32)
    noise = 0.1 * rng.normal(size=(rows, 4))
    targets = {
        "sum": x.sum(1) + noise[:, 0],
        "first": (x[:, 0] > 0).astype(int),
        "last": 3 * x[:, 3] + noise[:, 1],
        "second": (x[:, 1] > 0).astype(int),
    }
    kinds = {"sum": Regression(), "first": Binary(), "last": Regression(), "second": Binary()}
    return Problem.from_arrays(x, targets, kinds, name="mixed")


def trained(problem: Problem, model, rate: float, clip: float | None) -> None:
    """Plain gradient descent for a few epochs, every batch the same whatever the model."""
    settings = TrainingSettings(
        epochs=4,
        patience=None,
        batch_size=16,
        learning_rate=rate,
        weight_decay=0.0,
        clip_norm=clip,
        device="cpu",
    )
    trainer = Trainer(
        problem,
        model,
        settings=settings,
        optimizer=lambda groups: torch.optim.SGD(groups, lr=rate),
    )
    for _ in range(4 * trainer.steps_per_epoch):
        trainer.train_step()


@pytest.mark.parametrize("clip", [None, 0.05])
def test_memberships_of_0_and_1_are_models_trained_apart(clip):
    problem = mixed_problem()
    names = [task.name for task in problem.tasks]
    groups = [["sum", "first"], ["last", "second"]]
    memberships = [[float(name in group) for group in groups] for name in names]
    models = [small(problem.tasks) for _ in groups]
    alone = copy.deepcopy(models)
    # The mean over four tasks is half the mean over two, so the rate is twice as high.
    trained(problem, SpecialisedModels(models=models, memberships=memberships), 0.2, clip)
    for model, own, group in zip(models, alone, groups, strict=True):
        part = problem.select_tasks(group)
        apart = small(part.tasks)
        _copy_rows(own, apart)
        trained(part, apart, 0.1, clip)
        expected = predict_outputs(apart, problem.test.select(group))
        found = predict_outputs(model, problem.test)
        for name in group:
            torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=1e-6)
    if clip is None:
        # Heads of tasks that are in no group of a model stay as they were.
        for model, before, group in zip(models, alone, groups, strict=True):
            for name in set(names) - set(group):
                for (now, index), (then, _) in zip(
                    model.task_rows(name), before.task_rows(name), strict=True
                ):
                    assert torch.equal(now[index], then[index])


def _copy_rows(source: HardSharing, target: HardSharing) -> None:
    """Trunk, and the rows of the tasks that the target has."""
    target.encoder.load_state_dict(source.encoder.state_dict())
    with torch.no_grad():
        for task in target.tasks:
            pairs = zip(target.task_rows(task.name), source.task_rows(task.name), strict=True)
            for (to, there), (parameter, here) in pairs:
                to[there] = parameter[here]


@pytest.mark.parametrize("clip", [None, 0.05])
def test_uniform_memberships_are_an_ensemble_of_joint_models(clip):
    problem = mixed_problem()
    models = [small(problem.tasks) for _ in range(3)]
    alone = copy.deepcopy(models)
    memberships = torch.full((4, 3), 1 / 3)
    trained(problem, SpecialisedModels(models=models, memberships=memberships), 0.3, clip)
    expected = []
    for model, own in zip(models, alone, strict=True):
        trained(problem, own, 0.1, clip)
        for found, wanted in zip(model.parameters(), own.parameters(), strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-6)
        expected.append(predict_outputs(own, problem.test))
    found = predict_outputs(SpecialisedModels(models=models, memberships=memberships), problem.test)
    for task in problem.tasks:
        members = torch.stack([outputs[task.name] for outputs in expected])
        wanted = average_members(task, members)
        torch.testing.assert_close(found[task.name], wanted, atol=1e-6, rtol=1e-6)


def test_one_model_is_that_model_with_weighted_losses():
    problem = mixed_problem()
    batch = problem.train.batch(torch.arange(20))
    plain = small(problem.tasks)
    model = SpecialisedModels(models=[plain], memberships=[[0.5], [1.0], [0.0625], [2.0]])
    torch.testing.assert_close(
        TaskLosses(problem.tasks, member_weights=model.member_weights())(
            model(batch.inputs), batch
        ),
        TaskLosses(problem.tasks)(plain(batch.inputs), batch)
        * torch.tensor([0.5, 1.0, 0.0625, 2.0]),
    )
    model.eval()
    assert torch.equal(model(batch.inputs)["sum"], plain(batch.inputs)["sum"])


def test_models_that_serve_nobody_are_not_asked_in_evaluation():
    tasks = regressions(2)
    models = constant_models(torch.randn(3, 5, 2), tasks)
    model = SpecialisedModels(
        models=models,
        memberships=[[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]],
        serving=[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]],
    )
    model(torch.zeros(5, 1))
    assert [m.module.calls for m in models] == [1, 1, 1]
    found = model.eval()(torch.zeros(5, 1))
    assert [m.module.calls for m in models] == [2, 1, 2]
    torch.testing.assert_close(found["t0"][:, 0], models[0].module.outputs[:, 0])
    torch.testing.assert_close(found["t1"][:, 0], models[2].module.outputs[:, 1])


# --- conformance of other forms ------------------------------------------------------------------


def specialised(models):
    rows = [[0.5, 0.5] if t % 2 else [0.75, 0.25] for t in range(len(models[0].tasks))]
    return SpecialisedModels(models=models, memberships=rows)


def with_members(tasks):
    models = [HardSharing(encoder=tabular_encoder(3), tasks=tasks) for _ in range(2)]
    return specialised(models), tabular_inputs(6)


def of_mixed_forms(tasks):
    return specialised(
        [small(tasks, 5), Independent(encoder=MLP(input_size=5, widths=(6,)), tasks=tasks)]
    ), torch.randn(6, 5)


def images(tasks):
    models = [
        HardSharing(encoder=SmallCNN(image_size=8, channels=1), tasks=tasks) for _ in range(2)
    ]
    return specialised(models), torch.randn(6, 1, 8, 8)


def separate_members(tasks):
    models = [HardSharing(encoder=tabular_encoder(2), tasks=tasks) for _ in range(2)]
    return specialised(models), {t.name: tabular_inputs(3 + i) for i, t in enumerate(tasks)}


def cross_domain(tasks):
    first, inputs = CrossDomain.example(tasks)
    return specialised([first, CrossDomain.example(tasks)[0]]), inputs


def one_model(tasks):
    model = HardSharing(encoder=tabular_encoder(2), tasks=tasks)
    return SpecialisedModels(models=[model], memberships=[[0.5]] * len(tasks)), tabular_inputs(6)


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "example", [with_members, of_mixed_forms, images, separate_members, cross_domain, one_model]
)
def test_conformance_of_other_forms(example, check):
    check(example)


class WithPenalty(HardSharing):
    """Adds the mean of its outputs as a loss term."""

    def auxiliary_losses(self, inputs, outputs):
        return {"size": torch.stack([block.mean() for _, block in outputs.blocks]).mean()}


@pytest.mark.parametrize("members", [1, 2])
def test_loss_terms_of_the_models_are_theirs(members):
    tasks = (Task("a", Binary()), Task("b", Regression()))
    models = [WithPenalty(encoder=tabular_encoder(members), tasks=tasks) for _ in range(2)]
    for encoder in (m.encoder for m in models):
        encoder.dropout = 0.0
    model, inputs = specialised(models), tabular_inputs(6)
    terms = model.auxiliary_losses(inputs, model(inputs))
    assert list(terms) == ["size (model 0)", "size (model 1)"]
    for term, own in zip(terms.values(), models, strict=True):
        expected = own.auxiliary_losses(inputs, own(inputs))["size"]
        torch.testing.assert_close(term, expected)


# --- files ---------------------------------------------------------------------------------------


def test_it_can_be_made_again_from_its_record():
    tasks = (Task("a", Binary(), class_weights=(1.0, 4.0)), Task("b", Regression(mean=2.0)))
    model = SpecialisedModels(
        models=[small(tasks) for _ in range(2)], memberships=[[1 / 3, 2 / 3], [0.1, 0.6]]
    ).eval()
    again = from_record(json.loads(json.dumps(to_record(model)))).eval()
    again.load_state_dict(model.state_dict())
    assert again.memberships == model.memberships
    inputs = torch.randn(5, 4)
    for name, value in model(inputs).items():
        assert torch.equal(again(inputs)[name], value)


# --- bad input -----------------------------------------------------------------------------------

TASKS = regressions(2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"memberships": [[1.0, 0.0]]}, r"`memberships` must be \[2 tasks, 2 models\]"),
        ({"memberships": [[1.0], [1.0]]}, r"found shape \[2, 1\]"),
        ({"memberships": [[1.0, 0.0], [0.0, 0.0]]}, "Task 't1' is in no model"),
        ({"memberships": [[1.0, 0.0], [1.0, 0.0]]}, "a model without any task"),
        ({"memberships": [[1.0, -0.5], [0.0, 1.0]]}, "`memberships` must be finite and >= 0"),
        ({"memberships": [[1.0, math.nan], [0.0, 1.0]]}, "`memberships` must be finite"),
        ({"serving": [[0.5, 0.4], [0.5, 0.5]]}, "Row 't0' of `serving` must sum to 1"),
        (
            {"memberships": [[1.0, 0.0], [0.5, 0.5]], "serving": [[0.5, 0.5], [0.5, 0.5]]},
            "Task 't0' is served by model 1, which does not train it",
        ),
        ({"models": []}, "at least one model"),
        ({"models": [small(TASKS), small(TASKS[::-1])]}, "same tasks in the same order"),
        ({"models": [small(TASKS), small(regressions(3))]}, "same tasks in the same order"),
        ({"models": [small(TASKS)] * 2}, "must not share parameters"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    usual = {"models": [small(TASKS) for _ in range(2)], "memberships": [[0.5, 0.5], [0.5, 0.5]]}
    with pytest.raises(ValueError, match=message):
        SpecialisedModels(**{**usual, **arguments})


def test_a_model_that_is_no_architecture_is_an_error():
    with pytest.raises(TypeError, match="found Linear as model 0; wrap"):
        SpecialisedModels(models=[nn.Linear(2, 2)], memberships=[[1.0]])


def test_models_need_the_same_number_of_members():
    models = [HardSharing(encoder=tabular_encoder(m), tasks=TASKS) for m in (1, 3)]
    model = specialised(models)
    with pytest.raises(ValueError, match=r"same number of ensemble members, found \[1, 3\]"):
        model(tabular_inputs(4))
