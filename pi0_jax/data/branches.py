"""How the two branches of guidance differ: by an embedding, or by the prompt.

"embedding"       `cond_embed` in the suffix; both branches have the same prompt and share a prefix
"prompt_dropout"  unconditional = no prompt; guidance then amplifies the task, not the outcome
"text_indicator"  conditional = the prompt and words that ask for a good outcome
                  (RECAP, arXiv 2511.14759), unconditional = the prompt alone
"""

EMBEDDING, PROMPT_DROPOUT, TEXT_INDICATOR = "embedding", "prompt_dropout", "text_indicator"
BRANCH_MODES = (EMBEDDING, PROMPT_DROPOUT, TEXT_INDICATOR)
# The words that RECAP adds to the prompt.
INDICATOR = "Advantage: positive"


def has_two_prompts(branch_mode: str) -> bool:
    """Whether the branches have different prompts, so that each needs its own prefix."""
    return branch_mode != EMBEDDING


def branch_prompt(branch_mode: str, prompt: str, positive: bool) -> str:
    """Returns the prompt of a branch for an instruction such as "lift the cube".

    Args:
        branch_mode: one of `BRANCH_MODES`.
        prompt: the instruction.
        positive: True for the conditional branch, False for the unconditional one.
    """
    if branch_mode == PROMPT_DROPOUT and not positive:
        return ""
    if branch_mode == TEXT_INDICATOR and positive:
        return f"{prompt}. {INDICATOR}"
    return prompt
