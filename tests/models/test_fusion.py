import pytest
import torch

from recsys.models.fusion import (
    AdaptiveMimicFusion,
    ConcatFusion,
    DualAugmentedFusion,
    SumFusion,
    build_fusion,
)

IDS, METADATA = torch.randn(4, 3), torch.randn(4, 3)
KNOWN = torch.tensor([True, True, True, False])


def test_every_fusion_but_identity_is_built_by_name():
    kinds = {
        "sum": SumFusion,
        "concat": ConcatFusion,
        "adaptive_mimic": AdaptiveMimicFusion,
        "dual_augmented": DualAugmentedFusion,
    }
    assert {name: type(build_fusion(name, 3, 3)) for name in kinds} == kinds
    assert build_fusion("identity", 3, 3) is None


def test_dual_augmented_is_one_hidden_layer_over_all_three():
    fusion = DualAugmentedFusion(3, 4)
    augmented = torch.randn(4, 3)
    (first, _, second), beside = (
        fusion.layers,
        torch.cat([METADATA, torch.ones(4, 1), augmented], 1),
    )
    hidden = torch.cat([IDS, beside], dim=1) @ first.weight.T + first.bias
    expected = hidden.clamp(min=0) @ second.weight.T + second.bias
    assert torch.allclose(fusion(IDS, beside, KNOWN), expected, atol=1e-6)


def test_sum_adds():
    assert torch.equal(SumFusion()(IDS, METADATA, KNOWN), IDS + METADATA)


def test_concat_is_a_linear_map_of_both_side_by_side():
    fusion, metadata = ConcatFusion(3, 2), METADATA[:, :2]  # metadata may have another length
    weight, bias = fusion.linear.weight, fusion.linear.bias
    expected = IDS @ weight[:, :3].T + metadata @ weight[:, 3:].T + bias
    torch.testing.assert_close(fusion(IDS, metadata, KNOWN), expected)


def test_adaptive_mimic_lies_between_id_and_metadata_in_every_dimension():
    fused = AdaptiveMimicFusion(3)(IDS, METADATA, KNOWN)
    assert (fused >= torch.minimum(IDS, METADATA)).all()
    assert (fused <= torch.maximum(IDS, METADATA)).all()


def test_the_gate_is_the_share_of_the_id():
    fusion = AdaptiveMimicFusion(3)
    gates = fusion.gates(IDS, METADATA, KNOWN)
    expected = gates * IDS + (1 - gates) * METADATA
    torch.testing.assert_close(fusion(IDS, METADATA, KNOWN), expected)
    assert ((gates[KNOWN] > 0) & (gates[KNOWN] < 1)).all()


@pytest.mark.parametrize("bias", [-5.0, 0.0, 5.0])
def test_an_unknown_id_is_its_metadata_whatever_the_gate_has_learned(bias):
    fusion = AdaptiveMimicFusion(3)
    torch.nn.init.constant_(fusion.linear.bias, bias)
    assert torch.equal(fusion(IDS, METADATA, KNOWN)[3], METADATA[3])
    assert (fusion.gates(IDS, METADATA, KNOWN)[3] == 0).all()


@pytest.mark.parametrize("name", ["sum", "concat", "adaptive_mimic"])
def test_several_vectors_a_user_are_fused_each_by_itself(name):
    torch.manual_seed(0)
    fusion = build_fusion(name, 3, 3)
    queries = torch.randn(4, 2, 3)
    fused = fusion(
        queries, METADATA.unsqueeze(1).expand(-1, 2, -1), KNOWN.unsqueeze(1).expand(-1, 2)
    )
    for k in range(2):
        torch.testing.assert_close(fused[:, k], fusion(queries[:, k], METADATA, KNOWN))
