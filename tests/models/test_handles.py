"""The room models.handles; what the user's hooks see is tried in tests/models/test_host.py."""

import torch

from tl_dream.models.handles import user_hooks, without_user_hooks


def test_the_users_hooks_sleep_and_come_back() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Identity())
    seen: list[str] = []
    model[0].register_forward_hook(lambda *_: seen.append("first"))
    model[1].register_forward_pre_hook(lambda *_: seen.append("second"))
    before = [(module._forward_hooks, module._forward_pre_hooks) for module in model]
    assert user_hooks(model)
    with without_user_hooks(model):
        assert not user_hooks(model)
        model(torch.zeros(1, 2))
    assert not seen
    after = [(module._forward_hooks, module._forward_pre_hooks) for module in model]
    assert all(a is b for pair in zip(before, after, strict=True) for a, b in zip(*pair, strict=True))
    model(torch.zeros(1, 2))
    assert seen == ["first", "second"]
