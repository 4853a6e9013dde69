"""Keeping, dropping, and saying why."""

from hypothesis import given
from hypothesis import strategies as st

from facechain.judge.rank import rank
from facechain.types import Call, Verdict


def verdict(likeness: float | None = 0.9, call: Call = Call.SAME, **values) -> Verdict:
    return Verdict(
        **{
            "person": "Ada",
            "call": call,
            "likeness": likeness,
            "likeness_given": None,
            "likeness_before": None,
            "copy_score": None,
            "held_out": True,
            "faces": 1,
            "face_share": 0.3,
            "sharpness": 100.0,
            "judge": "test",
            "kept": False,
            "why": "",
            **values,
        }
    )


likenesses = st.none() | st.floats(-1, 1).map(lambda value: round(value, 1))  # rounded, so that ties happen
verdicts = st.builds(verdict, likenesses, st.sampled_from(Call), faces=st.integers(0, 3))
pictures = st.lists(st.lists(verdicts, min_size=1, max_size=3).map(tuple), max_size=12)


@given(pictures, st.integers(0, 8), st.floats(-1, 1), st.none() | st.integers(1, 3))
def test_promises(shown, keep, floor, expected):
    ranked = rank(shown, keep, floor, expected)
    assert ranked == rank(shown, keep, floor, expected)
    assert [[v.likeness for v in picture] for picture in ranked] == [[v.likeness for v in p] for p in shown]
    kept = [picture for picture in ranked if picture[0].kept]
    assert len(kept) <= keep
    for picture in ranked:
        assert len({v.kept for v in picture}) == 1
        for v in picture:
            assert v.why.startswith("kept: " if v.kept else "dropped: ")
            assert len(v.why) > len("dropped: ")
    good = []
    for picture in ranked:
        known = [v.likeness for v in picture if v.likeness is not None]
        sound = len(known) == len(picture) and all(v.call is not Call.OTHER for v in picture)
        if sound and min(known) >= floor and expected in (None, max(v.faces for v in picture)):
            good.append((min(known), picture[0].kept))
    assert len(kept) == min(keep, len(good))
    best_dropped = max((least for least, stays in good if not stays), default=-2)
    assert all(least >= best_dropped for least, stays in good if stays)
    assert not any(picture[0].kept for picture in ranked if any(v.likeness is None for v in picture))


def why(*shown: Verdict, keep: int = 2, floor: float = 0.5, expected: int | None = None, vetoes=None) -> list[str]:
    return [picture[0].why for picture in rank([(v,) for v in shown], keep, floor, expected, vetoes)]


def test_places_are_counted_among_the_good_ones():
    said = why(verdict(0.7), verdict(0.9), verdict(0.8), verdict(0.2))
    assert said == [
        "dropped: 3rd of 3 by likeness, 2 were asked for",
        "kept: 1st of 3 by likeness",
        "kept: 2nd of 3 by likeness",
        "dropped: likeness 0.20 to Ada is below the floor 0.50",
    ]


def test_the_earlier_of_equals_wins():
    assert [picture[0].kept for picture in rank([(verdict(0.8),)] * 3, 1, 0.5)] == [True, False, False]


def test_every_fault_is_named():
    assert why(verdict(None, Call.OTHER, faces=0)) == ["dropped: no face was found"]
    assert why(verdict(0.31, Call.OTHER)) == ["dropped: likeness 0.31 to Ada means someone else"]
    assert why(verdict(faces=2), expected=1) == ["dropped: 2 faces where 1 was asked for"]
    assert why(verdict(faces=1), expected=2) == ["dropped: 1 face where 2 were asked for"]
    assert why(verdict(), verdict(), vetoes={0: "not safe"})[0] == "dropped: not safe"


def test_doubts_are_added():
    assert why(verdict(0.8, Call.UNSURE))[0].endswith("; the judge is unsure")
    assert "perhaps a copy" in why(verdict(copy_score=0.2))[0]
    assert "perhaps a copy" not in why(verdict(copy_score=0.03))[0]
    assert "too few to hold one back" in why(verdict(held_out=False))[0]


def test_a_group_is_as_good_as_its_least_alike_person():
    group = (verdict(0.99), verdict(0.6, person="Bo"))
    even = (verdict(0.7), verdict(0.7, person="Bo"))
    assert [p[0].kept for p in rank([group, even], 1, 0.5)] == [False, True]
    assert rank([group], 1, 0.65)[0][0].why == "dropped: likeness 0.60 to Bo is below the floor 0.65"


def test_evidence_ranks_before_likeness_and_a_warped_face_last():
    shown = [(verdict(0.9, llr=5.0),), (verdict(0.8, llr=9.0),), (verdict(0.95, llr=12.0, warp=0.9),)]
    ranked = rank(shown, 2, None)
    assert [p[0].kept for p in ranked] == [True, True, False]
    assert ranked[1][0].why.startswith("kept: 1st")
    assert "the features look warped" in ranked[2][0].why
    old = [(verdict(0.9),), (verdict(0.8, llr=9.0),)]
    assert rank(old, 1, None)[0][0].why.startswith("kept"), "records without evidence rank by likeness"
