from dermaflux.report import _table, copies_matrix, with_intervals


def test_tables_escape_what_sources_wrote():
    assert "&lt;script&gt;" in _table([{"diagnosis": "<script>"}])


def test_numbers_are_short_and_missing_cells_empty():
    html = _table([{"n": 1234, "x": 0.123456, "none": None}])
    assert ">1,234<" in html and ">0.1235<" in html and "<td></td>" in html


def test_copies_are_counted_by_dataset_and_partner_in_the_corpuss_order():
    copies = [
        {"exclude_reason": "duplicate", "dataset": "c", "partner_dataset": "c", "images": 1},
        {"exclude_reason": "duplicate", "dataset": "b", "partner_dataset": "a", "images": 2},
        {"exclude_reason": "near_duplicate", "dataset": "b", "partner_dataset": "a", "images": 3},
    ]
    b, c = {"excluded from": "b", "a": 5, "c": 0}, {"excluded from": "c", "a": 0, "c": 1}
    assert copies_matrix(copies, ["a", "b", "c", "d"]) == [b, c]
    assert copies_matrix([], ["a"]) == []


def test_an_interval_stands_in_its_values_cell():
    row = {"arm": "a", "accuracy": 0.8, "accuracy_low": 0.71, "accuracy_high": 0.8904, "accuracy_sd": 0.01}
    assert with_intervals([row]) == [{"arm": "a", "accuracy": "0.800 (0.710 to 0.890)", "accuracy_sd": 0.01}]
