"""Speculative decoding: tokens are drafted cheaply, and several of them are verified in one pass of the model.

Every token is chosen from the model's own logits with the random numbers that it would get one at a time, and a drafted
token is kept only where it is that choice. So the draft decides how fast a text is generated, and not which text: the
same seed gives the text that it gives without speculation. `lookup` and `model_draft` draft, `verify` chooses.
"""
