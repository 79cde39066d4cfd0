from dataclasses import replace

from deployments.engines.paint_queue import Job, Likeness, PaintQueue
from pipeline.image_parameters import ImageParameters, ImageTask, Sampler

PARAMETERS = ImageParameters(prompt="a", seed=1, steps=4, guidance_scale=5, width=64, height=64)
SMALL = Likeness.of(PARAMETERS, width=64, height=64)
LARGE = Likeness.of(PARAMETERS, width=128, height=64)


def queue_of(*jobs: Job[str]) -> PaintQueue[str]:
    queue: PaintQueue[str] = PaintQueue()
    queue.add(jobs)
    return queue


def job(owner: str, likeness: Likeness = SMALL, index: int = 0, *, alone: bool = False) -> Job[str]:
    return Job(owner=owner, index=index, likeness=likeness, alone=alone)


def owners(group: list[Job[str]]) -> str:
    return "".join(job.owner for job in group)


def test_what_is_alike_goes_together_and_the_first_is_always_in():
    queue = queue_of(job("a"), job("b", LARGE), job("c"), job("d", LARGE), job("e"))
    assert [owners(queue.take(8)) for _ in range(3)] == ["ace", "bd", ""]


def test_a_group_has_no_more_than_it_may_and_the_rest_keeps_its_order():
    queue = queue_of(*(job(name) for name in "abcde"))
    assert [owners(queue.take(2)) for _ in range(4)] == ["ab", "cd", "e", ""]
    assert owners(queue_of(job("a"), job("b")).take(1)) == "a"


def test_pictures_of_one_request_may_be_in_several_calls():
    queue = queue_of(job("a", index=0), job("a", index=1), job("a", index=2))
    assert [[job.index for job in queue.take(2)] for _ in range(2)] == [[0, 1], [2]]


def test_who_withdraws_is_forgotten():
    queue = queue_of(job("a"), job("b"), job("a", LARGE))
    queue.withdraw("a")
    assert owners(queue.take(8)) == "b"
    assert len(queue) == 0


def test_what_was_too_much_together_goes_alone_and_first():
    queue = queue_of(job("c"))
    queue.put_back([job("a", alone=True), job("b", alone=True)])
    assert [owners(queue.take(8)) for _ in range(4)] == ["a", "b", "c", ""]


def test_pictures_are_alike_if_a_pipeline_takes_the_same_for_all():
    same = [
        replace(PARAMETERS, prompt="b"),
        replace(PARAMETERS, seed=2),
        replace(PARAMETERS, images=3),
        replace(PARAMETERS, strength=0.1),
    ]
    others = [
        replace(PARAMETERS, steps=5),
        replace(PARAMETERS, guidance_scale=6),
        replace(PARAMETERS, scheduler=Sampler.EULER),
        replace(PARAMETERS, negative_prompt="c"),
        replace(PARAMETERS, task=ImageTask.NOTHING),
    ]
    assert {Likeness.of(parameters, width=64, height=64) for parameters in same} == {SMALL}
    assert SMALL not in {Likeness.of(parameters, width=64, height=64) for parameters in others}


def test_without_guidance_its_strength_and_the_negative_prompt_are_all_one():
    plain = Likeness.of(replace(PARAMETERS, guidance_scale=0), width=64, height=64)
    assert plain == Likeness.of(replace(PARAMETERS, guidance_scale=1, negative_prompt="x"), width=64, height=64)
