"""Two ranks with RDMA know their devices; who has none, and more than two, are told why not."""

from actors.running.rdma_matrix import device_matrix


def test_between_two_ranks_the_first_active_device_of_each_leads_to_the_other() -> None:
    assert device_matrix([("rdma_en5", "rdma_en6"), ("rdma_en2",)]) == (("", "rdma_en5"), ("rdma_en2", ""))


def test_a_rank_without_a_device_is_named() -> None:
    refused = device_matrix([("rdma_en5",), ()])
    assert isinstance(refused, str)
    assert "rank 1" in refused


def test_which_of_several_cables_leads_where_is_not_guessed() -> None:
    assert "3 ranks" in str(device_matrix([("a",), ("b",), ("c",)]))
