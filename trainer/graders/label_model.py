"""``label_model``: a judge model reads the messages and chooses one of several labels."""

from trainer.graders.grade import ConcurrentGrader, Grade, Sample
from trainer.graders.judge import Judge, conversation_template
from trainer.graders.judge_spec import LabelModelGrader
from trainer.graders.remote import ModelEndpoint
from trainer.graders.verdicts import OneOf


class LabelModel(ConcurrentGrader):
    """The reward is 1 for a label that passes, and 0 for another."""

    def __init__(self, spec: LabelModelGrader):
        super().__init__("label-model", spec.concurrency)
        self._name, self._passing = spec.name, frozenset(spec.passing_labels)
        self._messages = conversation_template(spec.input)
        self._endpoint = ModelEndpoint(spec, self.closed)
        self._judge = Judge(self._endpoint, OneOf(spec.labels), spec.sampling_params)

    def grade_one(self, sample: Sample) -> Grade:
        label, usage = self._judge.ask(self._messages(sample))
        reward = float(label in self._passing)
        return Grade(reward, {self._name: reward}, usage=usage)

    def close(self) -> None:
        super().close()
        self._endpoint.close()
