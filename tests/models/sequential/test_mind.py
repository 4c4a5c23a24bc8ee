"""MIND: routing and its initial logits."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn import functional

from stemlab.models.sequential.mind import LOGIT_SETS, MIND
from stemlab.nn.interest import squash
from tests.models.sequential.interest_nets import SMALL, build
from tests.models.sequential.nets import SIZES, random_batch


def test_logits_are_drawn_in_training_and_fixed_in_evaluation() -> None:
    net, batch = build("mind"), random_batch()
    assert not torch.equal(net(batch, "train").interests_BKD, net(batch, "train").interests_BKD)
    again = net(batch).score_BN
    torch.manual_seed(99)
    assert torch.equal(net(batch).score_BN, again)
    other = MIND(SIZES, **SMALL)
    assert torch.equal(other.evaluation_logits_PKH, net.evaluation_logits_PKH)
    assert not [name for name in net.state_dict() if "logits" in name]


def test_logits_of_evaluation_depend_only_on_the_user() -> None:
    net, batch = build("mind"), random_batch()
    order = torch.arange(len(batch) - 1, -1, -1)
    columns = {name: getattr(batch, name)[order] for name in batch.__slots__ if getattr(batch, name) is not None}
    torch.testing.assert_close(net(replace(batch, **columns)).score_BN, net(batch).score_BN[order])
    logit_BKL = net.routing_logits(replace(batch, user_B=torch.arange(1, 13)), "eval")
    assert len(logit_BKL.flatten(1).unique(dim=0)) == 12
    equal_modulo = replace(batch, user_B=batch.user_B + LOGIT_SETS)
    assert torch.equal(net.routing_logits(equal_modulo, "eval"), net.routing_logits(batch, "eval"))


def test_squash() -> None:
    vector_BKD = torch.tensor([[[3.0, 4.0], [0.0, 0.0], [0.3, 0.4]]], requires_grad=True)
    squashed = squash(vector_BKD)
    torch.testing.assert_close(squashed.norm(dim=2), torch.tensor([[25 / 26, 0.0, 0.2]]))
    torch.testing.assert_close(functional.normalize(squashed[:, ::2], dim=2), torch.tensor([[[0.6, 0.8]] * 2]))
    squashed.sum().backward()
    assert bool(vector_BKD.grad.isfinite().all())


def test_gradients_pass_only_the_last_iteration() -> None:
    """The capsules of earlier iterations are constants in the backward pass."""
    net, batch = build("mind"), random_batch()
    fixed_BKL = torch.randn(len(batch), 3, batch.history_BL.shape[1])
    item_BLD = net.items(batch.history_BL).detach().requires_grad_()
    logit_BKL = fixed_BKL
    with torch.no_grad():
        mapped_BLD = net.routing.map(item_BLD)
        valid_B1L = (batch.history_BL > 0).unsqueeze(1)
        for _ in range(2):
            capsule_BKD = squash((logit_BKL.softmax(dim=1) * valid_B1L) @ mapped_BLD)
            logit_BKL = logit_BKL + capsule_BKD @ mapped_BLD.transpose(1, 2)
    last = squash((logit_BKL.softmax(dim=1) * valid_B1L) @ net.routing.map(item_BLD))
    ours = net.routing(item_BLD, batch.history_BL, fixed_BKL)
    torch.testing.assert_close(ours, last)
    (expected,) = torch.autograd.grad(last.square().sum(), [item_BLD])
    (found,) = torch.autograd.grad(ours.square().sum(), [item_BLD])
    torch.testing.assert_close(found, expected)


def test_label_aware_attention() -> None:
    capsule_BKD, target_BD = torch.randn(4, 3, 8), torch.randn(4, 8)
    weight_BK = (capsule_BKD * target_BD.unsqueeze(1)).sum(dim=2).square().softmax(dim=1)
    expected = (weight_BK.unsqueeze(2) * capsule_BKD).sum(dim=1)
    torch.testing.assert_close(MIND.attend(capsule_BKD, target_BD, 2), expected)


def test_without_power_training_uses_the_nearest_capsule() -> None:
    net, batch = build("mind"), random_batch()
    fixed_BKL = torch.randn(len(batch), 3, batch.history_BL.shape[1])
    net.routing_logits = lambda batch, phase: fixed_BKL
    output = net(batch, "train")
    candidates_BND = net.item_vectors()[batch.candidates_BN]
    nearest_B = (output.interests_BKD @ candidates_BND[:, :1].transpose(1, 2)).argmax(dim=1).squeeze(1)
    chosen_BD = output.interests_BKD[torch.arange(len(batch)), nearest_B]
    torch.testing.assert_close(output.score_BN, (candidates_BND @ chosen_BD.unsqueeze(2)).squeeze(2))
