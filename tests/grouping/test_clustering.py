"""Clusters of tasks against the reference numbers, scikit-learn, values by hand and invariances."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polytask.grouping.clustering import distances, kmeans, votes
from polytask.grouping.clustering.clusters import cluster
from polytask.grouping.clustering.distances import coordinates, squared_distances
from polytask.grouping.clustering.fuzzy import fuzzy_c_means, memberships
from polytask.grouping.clustering.kmeans import k_means
from polytask.grouping.clustering.num_groups import choose_num_groups, silhouette
from polytask.grouping.clustering.votes import point_votes


def cases(shared: Path, method: str) -> list[tuple[dict, dict, dict]]:
    """Parameters, inputs and (array, tolerances) of the canonical outputs, per case."""
    folder = shared / "fixtures"
    index = json.loads((folder / "index.json").read_text())
    found = []
    for case in index["cases"]:
        if case["category"] == "grouping" and case["method"] == method:
            arrays = np.load(folder / case["file"])
            inputs = {k: torch.from_numpy(arrays[v["key"]]) for k, v in case["inputs"].items()}
            outputs = {
                k: (torch.from_numpy(arrays[v["key"]]), {"rtol": v["rtol"], "atol": v["atol"]})
                for k, v in case["outputs"].items()
                if v["canonical"]
            }
            found.append((case["params"], inputs, outputs))
    assert found
    return found


def planted(tasks: int, groups: int, columns: int = 400, *, seed: int = 0, size: float = 1.0):
    """Points ``[T, P]`` around ``groups`` centres, noise of variance 1, and the true groups."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(tasks) % groups
    centres = math.sqrt(size) * torch.randn(groups, columns, generator=generator)
    noise = torch.randn(tasks, columns, generator=generator)
    return (centres[labels] + noise).double(), labels


def same_partition(first: torch.Tensor, second: torch.Tensor) -> bool:
    return torch.equal(first[:, None] == first, second[:, None] == second)


def test_reference_memberships(shared: Path) -> None:
    for params, inputs, outputs in cases(shared, "stg_membership"):
        expected, tolerances = outputs["W"]
        found = memberships(inputs["X"], inputs["C"], params["F"])
        torch.testing.assert_close(found, expected, **tolerances)


def test_reference_fuzzy_c_means(shared: Path) -> None:
    for params, inputs, outputs in cases(shared, "fuzzy_kmeans"):
        points = inputs["X"]
        spread = (points - points.mean(0)).square().sum(1).mean()
        found = fuzzy_c_means(
            points,
            inputs["C0"],
            fuzzifier=params["F"],
            tolerance=float(params["eps"] / spread),
            max_rounds=params["max_iter"],
        )
        torch.testing.assert_close(found.centres, outputs["C"][0], **outputs["C"][1])
        torch.testing.assert_close(found.memberships, outputs["W"][0], **outputs["W"][1])
        # The reference does not count the first turn.
        assert found.rounds == int(outputs["n_iter"][0]) + 1


def test_reference_pipeline(shared: Path) -> None:
    for params, inputs, outputs in cases(shared, "stg_pipeline"):
        points = inputs["maps"].flatten(1)
        found = cluster(points, params["n_clusters"], fuzzifier=params["F"])
        centres = found.weights @ points
        order = centres[:, 0].argsort()
        torch.testing.assert_close(
            centres[order], outputs["centroids"][0], **outputs["centroids"][1]
        )
        torch.testing.assert_close(found.memberships[:, order], outputs["W"][0], **outputs["W"][1])
        assert torch.equal(order.argsort()[found.labels], outputs["labels"][0])


def test_memberships_by_hand() -> None:
    points = torch.tensor([[0.0], [1.0], [3.0], [1.5]])
    centres = torch.tensor([[0.0], [3.0]])
    expected = torch.tensor([[1.0, 0.0], [0.8, 0.2], [0.0, 1.0], [0.5, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(memberships(points, centres, 2.0), expected, rtol=1e-15, atol=0)
    thirds = torch.tensor([[2 / 3, 1 / 3]], dtype=torch.float64)
    torch.testing.assert_close(memberships(points[1:2], centres, 3.0), thirds)


@pytest.mark.parametrize("fuzzifier", [1.0001, 1.07, 2.0, 5.0, 1e6])
@pytest.mark.parametrize("scale", [1e-200, 1e-12, 1.0, 1e12, 1e200])
def test_memberships_are_stable_and_know_no_unit(fuzzifier: float, scale: float) -> None:
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [4.0, 3.0], [2.0, 1.0]]).double()
    centres = torch.tensor([[0.0, 0.0], [4.0, 3.0], [4.0, 3.0], [1e-9, 0.0]]).double()
    found = memberships(points * scale, centres * scale, fuzzifier)
    assert found[0].tolist() == [1, 0, 0, 0]
    assert found[2].tolist() == [0, 0.5, 0.5, 0]
    torch.testing.assert_close(found.sum(1), torch.ones(4).double())
    torch.testing.assert_close(
        found, memberships(points, centres, fuzzifier), rtol=1e-6, atol=1e-12
    )


def test_memberships_between_hard_and_equal() -> None:
    points, _ = planted(8, 2, 5)
    centres = k_means(points, 2).centres
    hard = memberships(points, centres, 1.0001)
    nearest = torch.cdist(points, centres).argmin(1)
    torch.testing.assert_close(hard, torch.nn.functional.one_hot(nearest, 2).double())
    equal = memberships(points, centres, 1e6)
    torch.testing.assert_close(equal, torch.full_like(equal, 0.5), rtol=1e-4, atol=0)


@pytest.mark.parametrize("fuzzifier", [1.07, 1.5, 2.0])
def test_memberships_of_tasks_that_differ_by_noise_alone(fuzzifier: float) -> None:
    """What ``STG`` says of the fuzzifier: squared distances 1 - 1/s and 1 + 1/s."""
    points = torch.eye(6).double()
    centres = torch.stack([points[:3].mean(0), points[3:].mean(0)])
    found = memberships(points, centres, fuzzifier)
    odds = ((3 + 1) / (3 - 1)) ** (1 / (fuzzifier - 1))
    torch.testing.assert_close(found[0, 0] / found[0, 1], torch.tensor(odds).double())


def test_memberships_of_a_batch() -> None:
    points, centres = torch.randn(3, 5, 4), torch.randn(3, 2, 4)
    found = memberships(points, centres, 1.5)
    for batch in range(3):
        torch.testing.assert_close(found[batch], memberships(points[batch], centres[batch], 1.5))


@given(st.floats(max_value=1.0) | st.sampled_from([math.inf, math.nan]))
def test_bad_fuzzifiers(fuzzifier: float) -> None:
    with pytest.raises(ValueError, match="`fuzzifier` must be > 1"):
        memberships(torch.zeros(2, 1), torch.zeros(1, 1), fuzzifier)
    with pytest.raises(ValueError, match="`fuzzifier` must be > 1"):
        cluster(torch.zeros(2, 1), 1, fuzzifier=fuzzifier)


@pytest.mark.parametrize("chunk", [8, 70, 2**23])
def test_distances_in_chunks_of_any_source(chunk, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(distances, "CHUNK", chunk)
    points = torch.rand(7, 60, generator=torch.Generator().manual_seed(1)).half()
    expected = torch.cdist(
        points.double(), points.double(), compute_mode="donot_use_mm_for_euclid_dist"
    ).square()
    path = tmp_path / "points.npy"
    np.save(path, points.numpy())
    for source in (points, points.float(), points.T.contiguous().T, np.load(path, mmap_mode="r")):
        torch.testing.assert_close(squared_distances(source), expected, rtol=1e-12, atol=1e-12)


def test_distances_far_from_the_origin() -> None:
    points = torch.randn(5, 30).double()
    far = squared_distances(points + 1e6)
    torch.testing.assert_close(far, squared_distances(points), rtol=1e-7, atol=0)


@pytest.mark.parametrize("chunk", [8, 2**23])
def test_missing_numbers(chunk, monkeypatch) -> None:
    monkeypatch.setattr(distances, "CHUNK", chunk)
    nan = math.nan
    points = torch.tensor(
        [[0.0, 1.0, nan, 2.0, nan], [1.0, 3.0, 5.0, nan, nan], [nan, 0.0, 1.0, 5.0, nan]]
    )
    # Four columns are known to some task; the pairs share 2, 2 and 2 of them.
    expected = torch.tensor([[0.0, 10.0, 20.0], [10.0, 0.0, 50.0], [20.0, 50.0, 0.0]]).double()
    torch.testing.assert_close(squared_distances(points), expected)


def test_columns_that_no_task_has_change_nothing() -> None:
    points, _ = planted(6, 2, 20)
    holes = torch.full((6, 5), math.nan).double()
    with_holes = torch.cat([points[:, :7], holes, points[:, 7:]], 1)
    for method in ("memberships", "fuzzy", "hard"):
        torch.testing.assert_close(
            cluster(with_holes, 2, method=method).memberships,
            cluster(points, 2, method=method).memberships,
        )


def test_groups_are_found_with_a_third_of_the_labels_missing() -> None:
    points, labels = planted(12, 3)
    points[torch.rand(points.shape, generator=torch.Generator().manual_seed(0)) < 1 / 3] = math.nan
    found = cluster(points)
    assert found.num_groups == 3
    assert same_partition(found.labels, labels)


def test_points_that_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="both tasks 0 and 1"):
        squared_distances(torch.tensor([[1.0, math.nan], [math.nan, 1.0]]))
    with pytest.raises(ValueError, match="infinite numbers, first for task 1"):
        squared_distances(torch.tensor([[1.0, 2.0], [math.inf, 1.0]]))
    with pytest.raises(ValueError, match="tasks, numbers"):
        squared_distances(torch.zeros(3))
    with pytest.raises(ValueError, match=r"\(all NaN\) for task 1"):
        squared_distances(torch.tensor([[1.0, 2.0], [math.nan, math.nan]]))


@pytest.mark.parametrize("columns", [1, 3, 300])
def test_coordinates_keep_distances(columns: int) -> None:
    points = torch.randn(9, columns).double()
    squared = squared_distances(points)
    places = coordinates(squared)
    assert places.shape[1] == min(columns, 8)
    torch.testing.assert_close(squared_distances(places), squared)


def test_own_noise_is_taken_off() -> None:
    """Orthogonal noise of equal size adds one constant to all distances; without it the tasks of a
    group are one point.
    """
    signal = torch.zeros(6, 10).double()
    signal[3:, 0] = 1.0
    noise = torch.zeros(6, 10).double()
    noise[:, 1:7] = 5 * torch.eye(6)
    places = coordinates(squared_distances(signal + noise), noise=False)
    apart = torch.cdist(places, places)
    assert apart[:3, :3].max() < 1e-6
    torch.testing.assert_close(apart[:3, 3:], torch.ones(3, 3).double())


@pytest.mark.parametrize(("tasks", "groups", "columns"), [(12, 3, 4), (30, 5, 200), (40, 12, 60)])
def test_no_worse_than_scikit_learn(tasks: int, groups: int, columns: int) -> None:
    from sklearn.cluster import KMeans

    points, _ = planted(tasks, groups, columns, size=0.2)
    theirs = KMeans(groups, n_init=10, random_state=0).fit(points.numpy())
    ours = k_means(points, groups)
    assert ours.inertia <= theirs.inertia_ * (1 + 1e-9)
    distances = torch.cdist(points, ours.centres).square()
    assert ours.inertia == pytest.approx(float(distances.gather(1, ours.labels[:, None]).sum()))
    places = coordinates(squared_distances(points))
    assert k_means(places, groups).inertia == pytest.approx(ours.inertia, rel=1e-6)


def test_inertia_of_given_labels_equals_scikit_learn() -> None:
    """On clear groups both find the one best division: the same sum and the same centres."""
    from sklearn.cluster import KMeans

    points, labels = planted(20, 4, 50, size=4.0)
    theirs = KMeans(4, n_init=10, random_state=0).fit(points.numpy())
    ours = k_means(points, 4)
    assert same_partition(ours.labels, labels)
    assert ours.inertia == pytest.approx(theirs.inertia_, rel=1e-9)


def test_best_division_of_a_few_points() -> None:
    """All divisions of seven points into three groups, tried one by one."""
    points = torch.randn(7, 5, generator=torch.Generator().manual_seed(3)).double()
    best = math.inf
    for code in range(3**7):
        labels = torch.tensor([code // 3**i % 3 for i in range(7)])
        if len(labels.unique()) == 3:
            best = min(
                best,
                sum(
                    float((points[labels == j] - points[labels == j].mean(0)).square().sum())
                    for j in range(3)
                ),
            )
    assert k_means(points, 3).inertia == pytest.approx(best)


def test_many_points_and_groups_that_lose_all_points() -> None:
    points = torch.cat(
        [torch.zeros(1500, 1), torch.ones(1500, 1), torch.full((2, 1), 9.0)]
    ).double()
    found = k_means(points, 3, restarts=2)
    assert found.inertia < 1e-20
    expected = torch.tensor([[0.0], [1.0], [9.0]]).double()
    torch.testing.assert_close(found.centres, expected, rtol=1e-12, atol=1e-12)
    labels = kmeans._lloyd(points, torch.tensor([[0.0], [-50.0], [1.0]]).double())
    assert len(labels.unique()) == 3


def test_groups_that_there_cannot_be() -> None:
    twins = torch.tensor([[0.0, 1.0], [0.0, 1.0], [2.0, 2.0]])
    for call in (k_means, cluster):
        with pytest.raises(ValueError, match="only 2 of the 3 tasks differ"):
            call(twins, 3)
        for number in (0, 4):
            with pytest.raises(ValueError, match=f"number of tasks, 3, found {number}"):
                call(twins, number)
    with pytest.raises(ValueError, match="`restarts`"):
        k_means(twins, 2, restarts=0)
    with pytest.raises(ValueError, match="`method`"):
        cluster(twins, 2, method="other")
    with pytest.raises(ValueError, match="`max_rounds`"):
        fuzzy_c_means(twins, twins[:1], max_rounds=0)
    with pytest.raises(ValueError, match="`max_groups`"):
        choose_num_groups(squared_distances(twins), max_groups=0)


def test_fuzzy_c_means_lowers_its_sum_and_stays_where_it_ends() -> None:
    points, _ = planted(15, 3, 6)
    start = k_means(points, 3).centres

    def objective(centres: torch.Tensor) -> float:
        inside = memberships(points, centres, 2.0)
        return float((inside.square() * torch.cdist(points, centres).square()).sum())

    values, centres = [objective(start)], start
    for _ in range(10):
        centres = fuzzy_c_means(points, centres, max_rounds=1).centres
        values.append(objective(centres))
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(values))
    end = fuzzy_c_means(points, start, tolerance=1e-18, max_rounds=10_000)
    assert end.rounds < 10_000
    torch.testing.assert_close(
        end.memberships, memberships(points, end.centres, 2.0), rtol=1e-5, atol=1e-7
    )


def test_fuzzy_c_means_with_hardly_fuzzy_groups_is_k_means() -> None:
    points, _ = planted(12, 3, 5)
    hard = k_means(points, 3)
    soft = fuzzy_c_means(points, hard.centres, fuzzifier=1.0001)
    torch.testing.assert_close(soft.centres, hard.centres)


def test_votes_by_hand() -> None:
    """Two epochs of two examples; three of task 0's four pairs are of the easy sort."""
    easy, hard, gone = (0.9, 0.1), (0.2, 0.3), (math.nan, math.nan)
    rows = [[easy, easy, hard, easy], [hard, hard, easy, hard], [easy, gone, gone, hard]]
    votes, centres = point_votes(torch.tensor(rows).flatten(1), 2)
    expected = torch.tensor([[0.75, 0.25], [0.25, 0.75], [0.5, 0.5]]).double()
    torch.testing.assert_close(votes, expected)
    torch.testing.assert_close(centres.float(), torch.tensor([easy, hard]))
    assert torch.equal(cluster(torch.tensor(rows).flatten(1), 2, method="votes").memberships, votes)


def test_votes_of_a_sample_are_those_of_all(monkeypatch) -> None:
    generator = torch.Generator().manual_seed(0)
    middle = torch.tensor([[0.9, 0.1], [0.3, 0.4]])
    kind = torch.rand(5, 2000, generator=generator) < torch.arange(1, 6)[:, None] / 6
    points = (middle[kind.long()] + 0.02 * torch.randn(5, 2000, 2, generator=generator)).flatten(1)
    everything, _ = point_votes(points, 2)
    monkeypatch.setattr(votes, "SAMPLE", 200)
    monkeypatch.setattr(votes, "CHUNK", 999)
    some, centres = point_votes(points, 2)
    order = centres[:, 0].argsort()
    torch.testing.assert_close(some[:, order][:, 0], kind.double().mean(1))
    torch.testing.assert_close(everything.sort(1).values, some.sort(1).values)


def test_points_that_cannot_vote() -> None:
    with pytest.raises(ValueError, match="pairs of numbers, found 3"):
        point_votes(torch.zeros(2, 3), 1)
    with pytest.raises(ValueError, match="Task 1 has no pair"):
        point_votes(torch.tensor([[0.0, 1.0], [0.0, math.nan]]), 1)
    with pytest.raises(ValueError, match="found 2 pairs"):
        point_votes(torch.zeros(2, 2), 3)


def test_silhouettes_as_scikit_learn() -> None:
    from sklearn.metrics import silhouette_samples

    points, labels = planted(14, 3, 8)
    labels = torch.where(labels == 2, 5, labels)
    labels[0] = 3
    distances = torch.cdist(points, points)
    expected = silhouette_samples(distances.numpy(), labels.numpy(), metric="precomputed")
    torch.testing.assert_close(silhouette(distances, labels), torch.from_numpy(expected))


@pytest.mark.parametrize("method", ["memberships", "fuzzy", "hard"])
def test_invariances(method) -> None:
    """Another order of the tasks, another unit, another origin, turned axes: the same groups."""
    points, _ = planted(10, 3, 12, size=2.0)
    base = cluster(points, 3, method=method)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(2))
    turn = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64)).Q
    for name, changed in {
        "order": points[order],
        "unit": 1e-7 * points,
        "origin": points + 100,
        "axes": points @ turn,
    }.items():
        found = cluster(changed, 3, method=method).memberships
        wanted = base.memberships[order] if name == "order" else base.memberships
        columns = [(found[:, [j]] - wanted).abs().sum(0).argmin() for j in range(3)]
        torch.testing.assert_close(found, wanted[:, columns], rtol=1e-6, atol=1e-9)


def test_a_task_alone_in_its_group_belongs_to_it_wholly() -> None:
    """As "random" in figure 4 of the paper."""
    points, _ = planted(9, 2, 50, size=3.0)
    points[4] = 10 * torch.randn(50, generator=torch.Generator().manual_seed(5)).double()
    found = cluster(points, 3, fuzzifier=2.0)
    assert found.memberships[4].sort().values.tolist() == [0, 0, 1]
    assert (found.labels == found.labels[4]).sum() == 1
    assert found.memberships.sum(1) == pytest.approx(np.ones(9))


def test_equal_tasks_have_equal_memberships() -> None:
    points, _ = planted(8, 2, 500)
    points[5] = points[1]
    found = cluster(points, 3).memberships
    assert torch.equal(found[5], found[1])


def test_centres_are_what_the_weights_say() -> None:
    points, _ = planted(8, 2, 6)
    hard = cluster(points, 2, method="hard")
    torch.testing.assert_close(hard.weights @ points, k_means(points, 2).centres)
    soft = cluster(points, 2, method="fuzzy")
    start = k_means(points, 2).centres
    torch.testing.assert_close(soft.weights @ points, fuzzy_c_means(points, start).centres)


@pytest.mark.parametrize("method", ["memberships", "fuzzy", "votes", "hard"])
def test_the_same_seed_gives_the_same(method) -> None:
    points, _ = planted(10, 3, 40)
    state = torch.random.get_rng_state()
    first, second = (cluster(points, method=method, seed=3) for _ in range(2))
    assert torch.equal(first.memberships, second.memberships)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_one_task_and_equal_tasks_are_one_group() -> None:
    for points in (torch.rand(1, 6), torch.rand(1, 6).expand(5, 6), torch.full((4, 6), 0.5)):
        found = cluster(points)
        assert torch.equal(found.memberships, torch.ones(len(points), 1).double())
        assert math.isnan(found.silhouette)
    one = cluster(torch.rand(1, 6), 1)
    assert one.memberships.tolist() == [[1.0]]


@pytest.mark.parametrize("method", ["memberships", "fuzzy", "hard"])
@pytest.mark.parametrize("tasks", [2, 12, 150])
def test_two_sorts_of_equal_tasks_are_two_groups(tasks: int, method) -> None:
    """Whatever the numbers: the mean of equal tasks is one of them only up to rounding."""
    sorts = torch.arange(tasks) % 2
    expected = torch.nn.functional.one_hot(sorts, 2).double()
    for seed in range(100 if tasks < 100 else 10):
        points = torch.rand(2, 30, generator=torch.Generator().manual_seed(seed))[sorts]
        found = cluster(points, 2, method=method, restarts=2)
        assert torch.equal(found.memberships, expected)


def test_two_sorts_of_equal_tasks_are_counted() -> None:
    for seed in range(20):
        points = torch.rand(2, 30, generator=torch.Generator().manual_seed(seed))
        found = cluster(points[torch.arange(12) % 2])
        assert found.memberships.tolist() == [[1.0, 0.0], [0.0, 1.0]] * 6


@pytest.mark.parametrize("fuzzifier", [1.07, 2.0, 5.0])
@pytest.mark.parametrize("scale", [1e-200, 1e-12, 1.0, 1e12, 1e200])
def test_points_on_the_mean_of_equal_points_belong_to_it_wholly(fuzzifier, scale) -> None:
    """However the mean was summed, far from the origin too, and beside much larger points."""
    generator = torch.Generator().manual_seed(0)
    for copies in (1, 3, 7, 100):
        for _ in range(20):
            sorts = torch.randn(3, 5, dtype=torch.float64, generator=generator)
            sorts[1] += 1e6
            points = scale * sorts.repeat_interleave(copies, 0)
            centres = points.reshape(3, copies, 5).mean(1)
            added = sum(points.reshape(3, copies, 5).unbind(1)) / copies
            expected = torch.eye(3).double().repeat_interleave(copies, 0)
            assert torch.equal(memberships(points, centres, fuzzifier), expected)
            assert torch.equal(memberships(points, added, fuzzifier), expected)


def test_points_beside_a_centre_are_not_on_it() -> None:
    """A distance that is small beside the points is one, if it is more than rounding."""
    points = torch.tensor([[1.0], [1.0 + 1e-12], [1.0 + 3e-12]], dtype=torch.float64)
    found = memberships(points, points[[0, 2]], 2.0)
    assert found[0].tolist() == [1, 0]
    torch.testing.assert_close(found[1], torch.tensor([0.8, 0.2]).double(), rtol=1e-3, atol=0)


@pytest.mark.parametrize(("tasks", "problems"), [(15, 10), (40, 4)])
@pytest.mark.parametrize("groups", [1, 2, 3, 5])
def test_the_number_of_groups(tasks: int, problems: int, groups: int) -> None:
    """Centres whose variance per column is half of the noise's; one problem may come out wrong (the
    comparison with data without groups errs once in 20).
    """
    found = [
        choose_num_groups(
            squared_distances(planted(tasks, groups, 1000, seed=seed, size=0.5)[0]), seed=seed
        )
        for seed in range(problems)
    ]
    assert [count.num_groups for count in found].count(groups) >= problems - 1
    for count in found:
        best = max(count.silhouettes.values())
        assert (best > count.threshold) == (count.num_groups > 1)


def test_the_most_groups_that_there_may_be() -> None:
    points, _ = planted(30, 6, 500)
    assert cluster(points).num_groups == 6
    assert cluster(points, max_groups=3).num_groups <= 3
    assert cluster(points, max_groups=1).num_groups == 1


def test_many_groups_are_tried_in_steps_and_then_one_by_one() -> None:
    points, labels = planted(130, 19, 600)
    found = cluster(points, max_groups=60)
    assert len(found.count.silhouettes) < 35
    assert found.num_groups == 19
    assert same_partition(found.labels, labels)
