// One definition of each type of grader to begin with, ready to run on the sample beside it.

export const GRADERS = {
  string_check: { type: "string_check", name: "contains the answer", input: "{{sample.output_text}}", operation: "like", reference: "{{item.answer}}" },
  math_verify: { type: "math_verify", name: "right answer", reference: "{{item.answer}}" },
  text_similarity: { type: "text_similarity", name: "similar", input: "{{sample.output_text}}", reference: "{{item.answer}}", evaluation_metric: "fuzzy_match" },
  python: { type: "python", name: "short and right", source: "def grade(sample, item):\n    text = sample['output_text']\n    right = item['answer'] in text\n    return float(right) * min(1.0, 80 / max(1, len(text)))\n" },
  environment: { type: "environment", name: "task", task: "chain_sum", parameters: { min_terms: 2, max_terms: 2, min_digits: 1, max_digits: 1 }, extract: "last_number" },
  multi: {
    type: "multi",
    name: "right and close",
    graders: {
      right: { type: "string_check", name: "right", input: "{{sample.output_text}}", operation: "like", reference: "{{item.answer}}" },
      close: { type: "text_similarity", name: "close", input: "{{sample.output_text}}", reference: "{{item.answer}}", evaluation_metric: "fuzzy_match" },
    },
    calculate_output: "0.8 * right + 0.2 * close",
  },
  score_model: { type: "score_model", name: "judge", model: "judge", range: [0, 1], input: [{ role: "user", content: "Score this answer to {{item.question}} from 0 to 1: {{sample.output_text}}" }] },
  label_model: { type: "label_model", name: "label", model: "judge", labels: ["right", "wrong"], passing_labels: ["right"], input: [{ role: "user", content: "Is {{sample.output_text}} a right answer to {{item.question}}?" }] },
  creative_writing: { type: "creative_writing", name: "prose", model: "judge" },
  http: { type: "http", name: "mine", url: "https://grader.example/score" },
};
