"""How the two branches of guidance are told apart: by an embedding, or by the prompt.

"embedding"       the suffix's `cond_embed`; both branches have the prompt, and one prefix
"prompt_dropout"  unconditional = no prompt: guidance then amplifies the task, not the outcome
"text_indicator"  conditional = the prompt and words that say that the outcome is wanted
                  (RECAP, arXiv 2511.14759), unconditional = the prompt alone
"""

EMBEDDING, PROMPT_DROPOUT, TEXT_INDICATOR = "embedding", "prompt_dropout", "text_indicator"
BRANCH_MODES = (EMBEDDING, PROMPT_DROPOUT, TEXT_INDICATOR)
INDICATOR = "Advantage: positive"


def has_two_prompts(branch_mode: str) -> bool:
    """Whether the branches have different prompts, and so a prefix each."""
    return branch_mode != EMBEDDING


def branch_prompt(branch_mode: str, prompt: str, positive: bool) -> str:
    """What a branch is told, of an instruction such as "lift the cube".

    Args:
        branch_mode: one of `BRANCH_MODES`.
        prompt: the instruction.
        positive: the conditional branch, instead of the unconditional one.
    """
    if branch_mode == PROMPT_DROPOUT and not positive:
        return ""
    if branch_mode == TEXT_INDICATOR and positive:
        return f"{prompt}. {INDICATOR}"
    return prompt
