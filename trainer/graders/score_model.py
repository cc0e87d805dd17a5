"""``score_model``: a judge model reads the messages and gives a score within a range."""

from trainer.graders.grade import ConcurrentGrader, Grade, Sample
from trainer.graders.judge import Judge, conversation_template
from trainer.graders.remote import ModelEndpoint
from trainer.graders.spec import ScoreModelGrader
from trainer.graders.verdicts import Scores


class ScoreModel(ConcurrentGrader):
    """The reward is the score's place in its range: 0 at the lower end, 1 at the upper."""

    def __init__(self, spec: ScoreModelGrader):
        super().__init__("score-model", spec.concurrency)
        self._name, (self._low, self._high) = spec.name, spec.bounds
        self._messages = conversation_template(spec.input)
        self._endpoint = ModelEndpoint(spec, self.closed)
        scores = Scores(["result"], self._low, self._high)
        self._judge = Judge(self._endpoint, scores, spec.sampling_params)

    def grade_one(self, sample: Sample) -> Grade:
        numbers, usage = self._judge.ask(self._messages(sample))
        score = numbers["result"]
        reward = (score - self._low) / (self._high - self._low)
        return Grade(reward, {self._name: score}, value=score, usage=usage)

    def close(self) -> None:
        super().close()
        self._endpoint.close()
