"""``score_model``: a judge model reads the messages and gives a score within a range."""

from trainer.graders.grade import ConcurrentGrader, Grade, Sample
from trainer.graders.judge import Judge
from trainer.graders.remote import ModelEndpoint
from trainer.graders.spec import ScoreModelGrader
from trainer.graders.templates import compile_template


class ScoreModel(ConcurrentGrader):
    """The reward is the score's place in its range: 0 at the lower end, 1 at the upper."""

    def __init__(self, spec: ScoreModelGrader):
        super().__init__("score-model", spec.concurrency)
        self._name, (self._low, self._high) = spec.name, spec.bounds
        self._messages = [(message.role, compile_template(message.template)) for message in spec.input]
        self._endpoint = ModelEndpoint(spec, self.closed)
        self._judge = Judge(self._endpoint, ["result"], self._low, self._high, spec.sampling_params)

    def grade_one(self, sample: Sample) -> Grade:
        # "developer" is OpenAI's own word for what others call "system".
        messages = [
            {"role": "system" if role == "developer" else role, "content": render(sample)}
            for role, render in self._messages
        ]
        numbers, usage = self._judge.ask(messages)
        score = numbers["result"]
        reward = (score - self._low) / (self._high - self._low)
        return Grade(reward, {self._name: score}, value=score, usage=usage)

    def close(self) -> None:
        super().close()
        self._endpoint.close()
