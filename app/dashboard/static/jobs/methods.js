// What there is to train by: methods, algorithms, and the ablations and controls that experiments have beside them.

/** By its type in the API, what a method is called in forms, and what it learns from. */
export const METHODS = {
  reinforcement: ["Rewards", "The model answers, and a grader rewards."],
  supervised: ["Answers", "Each row ends with what the assistant should say."],
  dpo: ["Preferences", "Each row has two answers, of which one is preferred."],
};

export const ALGORITHMS = ["policy_split", "grpo", "dr_grpo", "dapo", "gspo", "cispo", "entropy_bonus", "adaptive_entropy", "entropy_advantage", "edge_grpo", "clip_cov", "kl_cov", "forking_tokens"];

/** Those whose name is an algorithm's are found there. */
export const ABLATIONS = ["grpo_2x", "single_entropy", "prompt_only", "freeze_loss", "freeze_full", "hidden_freeze", "no_share", "no_share_pool", "no_prompt", "neutral_prompt", "prompt_inference", "h_to_n", "n_to_h", "no_kl", "eta_normal_minus", "eta_normal_plus", "clip_order_outside", "cross_importance_truncated"];
