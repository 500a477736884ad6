"""A step on all tables computes what the ensemble computes table by table."""

from __future__ import annotations

import torch
from experiments.universal.uci121.joint import learn
from tests.architectures.variables.test_neighbour_ensemble import (
    COLUMNS,
    ROWS,
    answers_to,
    ensemble,
    tables,
)

from polytask.problems.table_batch import TableBatch
from polytask.tasks import TaskTensors


def learned(model, *, use=None, rows=None, inputs=None, names=tuple(COLUMNS)):
    """Answers to a training batch of some tables."""
    data = inputs if inputs is not None else {name: tables()[name] for name in names}
    targets = TaskTensors.from_mapping({n: t for n, t in answers_to().items() if n in names})
    everything = torch.ones(model.members, len(names), ROWS, dtype=torch.bool)
    return learn(model, data, targets, everything if use is None else use, rows)


def test_learning_computes_what_evaluation_computes():
    """Heads agree; neighbours do if a row's own entry is taken out of the memory."""
    model = ensemble()
    model.train()
    batch = learned(model)
    model.eval()
    for name, rows in tables().items():
        single = model.answers(name, rows)
        torch.testing.assert_close(batch[name][:2], single[:2], atol=1e-5, rtol=1e-5)
        fold = (torch.arange(ROWS) == 2).long()
        left_out = ensemble(folds=2)
        left_out.load_state_dict(model.state_dict())
        left_out.held_out.fill_(1)
        left_out.remember({name: rows}, {name: answers_to()[name]}, {name: fold})
        expected = left_out.eval().answers(name, rows)[2:, 2]
        torch.testing.assert_close(batch[name][2:, 2], expected, atol=1e-5, rtol=1e-5)


def test_packed_and_plain_tables_give_the_same():
    model = ensemble()
    plain = learned(model)
    packed = learned(model, inputs=TableBatch.pack(tables()))
    for name in COLUMNS:
        torch.testing.assert_close(plain[name], packed[name])


def test_some_tables_give_what_all_give():
    model = ensemble()
    whole, part = learned(model), learned(model, names=("number", "wide"))
    assert set(part) == {"number", "wide"}
    for name in part:
        torch.testing.assert_close(part[name], whole[name])


def test_a_row_that_was_drawn_twice_is_no_neighbour_of_itself():
    model = ensemble()
    for group in model.groups:
        torch.nn.init.constant_(group.sharpness, 12.0)
    doubled = {name: rows[[0, 0, 2, 3, 4, 5]] for name, rows in tables().items()}
    numbers = torch.tensor([0, 0, 2, 3, 4, 5]).expand(4, -1)
    targets = TaskTensors.from_mapping(answers_to())
    use = torch.ones(2, 4, ROWS, dtype=torch.bool)
    knowing = learn(model, doubled, targets, use, numbers)["number"][2:, 0, 0]
    naive = learn(model, doubled, targets, use)["number"][2:, 0, 0]
    twin = answers_to()["number"][1]
    torch.testing.assert_close(naive, twin.expand(2))
    assert bool((knowing >= answers_to()["number"][2]).all())


def test_rows_that_a_member_may_not_use_do_not_reach_its_neighbours():
    model = ensemble()
    use = torch.ones(2, 4, ROWS, dtype=torch.bool)
    use[0, :, 3] = False
    other = tables()
    other["wide"] = other["wide"].clone()
    other["wide"][3] += 5.0
    before, after = learned(model, use=use), learned(model, use=use, inputs=other)
    rest = [0, 1, 2, 4, 5]
    torch.testing.assert_close(before["wide"][2][rest], after["wide"][2][rest])
    assert not torch.allclose(before["wide"][3][rest], after["wide"][3][rest])
