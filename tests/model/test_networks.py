"""The two networks: their published sizes, any view length, their names."""

import pytest
import torch
from torch import nn

from transit_cli.model import registry
from transit_cli.model.astronet import pooled_length
from transit_cli.results import TransitError


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def inputs_for(views, scalars=0, batch=3):
    found = {name: torch.randn(batch, length) for name, length in views.items()}
    return found | ({"scalars": torch.randn(batch, scalars)} if scalars else {})


@pytest.mark.parametrize("name", ["two-branch", "astronet"])
@pytest.mark.parametrize(
    ("views", "scalars"),
    [
        ({"global": 2001, "local": 201}, 0),
        ({"global": 201, "local": 61}, 4),
        ({"global": 201, "local": 61, "secondary": 61, "odd": 61, "even": 61}, 2),
    ],
)
def test_one_logit_a_sample_and_every_weight_learns(name, views, scalars):
    network = registry.build(name, views, scalars)
    logits = network(inputs_for(views, scalars))
    assert logits.shape == (3,)
    logits.sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())


def test_two_branch_is_the_guides():
    network = registry.build("two-branch", {"global": 2001, "local": 201})
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv1d)]
    assert [module.kernel_size[0] for module in convolutions] == [7, 5, 5, 5, 3, 3]
    assert {module.out_channels for module in convolutions} == {32}
    assert network.head[0].normalized_shape == (128,)  # 4 x width
    assert network.head[1].out_features == 128
    assert network.head[3].p == 0.3


@pytest.mark.parametrize("length", [4, 5, 7, 30, 1000])
def test_two_branch_takes_any_length(length):
    views = {"global": length, "local": length}
    assert registry.build("two-branch", views)(inputs_for(views)).shape == (3,)


def test_astronet_is_the_papers():
    network = registry.build("astronet", {"global": 2001, "local": 201})
    convolutions = [module.out_channels for module in network.modules() if isinstance(module, nn.Conv1d)]
    assert convolutions == [16, 16, 32, 32, 64, 64, 128, 128, 256, 256, 16, 16, 32, 32]
    dense = [module for module in network.modules() if isinstance(module, nn.Linear)]
    assert [module.out_features for module in dense] == [512, 512, 512, 512, 1]
    assert dense[0].in_features == 256 * pooled_length(2001, 5, 5) + 32 * pooled_length(201, 2, 7) == 16_576


def test_astronet_refuses_what_its_poolings_leave_nothing_of():
    registry.build("astronet", {"global": 125, "local": 19})
    with pytest.raises(TransitError, match="global view's 124 bins"):
        registry.build("astronet", {"global": 124, "local": 19})


def test_unknown_name_lists_the_known():
    with pytest.raises(TransitError) as caught:
        registry.build("resnet", {"global": 201})
    assert "two-branch" in caught.value.wanted
    assert "astronet" in caught.value.wanted


OWN = """
import torch
from torch import nn

class Mapped(nn.Module):
    def __init__(self, views, scalars):
        super().__init__()
        self.linear = nn.Linear(views["global"] + scalars, 1)

    def forward(self, inputs):
        parts = [inputs["global"]] + ([inputs["scalars"]] if "scalars" in inputs else [])
        return self.linear(torch.cat(parts, 1))

class Positional(nn.Module):
    def __init__(self, views, scalars):
        super().__init__()
        self.linear = nn.Linear(sum(views.values()) + scalars, 1)

    def forward(self, *tensors):
        return self.linear(torch.cat(tensors, 1)).squeeze(1)

class Wrong(Mapped):
    def forward(self, inputs):
        return inputs["global"]

def mapped(views, scalars): return Mapped(views, scalars)
def positional(views, scalars): return Positional(views, scalars)
def wrong(views, scalars): return Wrong(views, scalars)
def none(views, scalars): return None
def failing(views, scalars): return 1 / 0
def ends_in_a_sigmoid(views, scalars):
    network = Mapped(views, scalars)
    forward = network.forward
    network.forward = lambda inputs: torch.sigmoid(forward(inputs))
    return network
def helper(x): return x
"""


@pytest.mark.parametrize("factory", ["mapped", "positional"])
@pytest.mark.parametrize("scalars", [0, 3])
def test_a_persons_own_network(tmp_path, factory, scalars):
    (tmp_path / "own.py").write_text(OWN)
    views = {"global": 20, "local": 10}
    network = registry.build(f"{tmp_path / 'own.py'}:{factory}", views, scalars)
    assert network.training
    assert network(inputs_for(views, scalars)).shape == (3,)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("own.py:wrong", r"returned \[2, 20\]"),
        ("own.py:none", "is NoneType"),
        ("own.py:failing", r"ZeroDivisionError.* \(own.py:\d+\); TRANSIT_DEBUG=1"),
        ("own.py:absent", "no function 'absent'"),
        ("gone.py:build", "does not exist"),
        ("broken.py:build", "SyntaxError"),
    ],
)
def test_an_own_network_that_will_not_do_is_named(tmp_path, name, words):
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "broken.py").write_text("def build(:")
    with pytest.raises(TransitError, match=words):
        registry.build(str(tmp_path / name), {"global": 20, "local": 10})


def test_a_network_that_ends_in_a_sigmoid_is_noticed_and_draws_no_random_numbers(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    torch.manual_seed(3)
    registry.build(f"{tmp_path / 'own.py'}:mapped", {"global": 20, "local": 10})
    expected = torch.rand(1)
    torch.manual_seed(3)
    with pytest.warns(UserWarning, match="does it end in a sigmoid"):
        registry.build(f"{tmp_path / 'own.py'}:ends_in_a_sigmoid", {"global": 20, "local": 10})
    assert torch.equal(torch.rand(1), expected)


def test_a_file_without_a_function_is_answered_with_its_functions(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    with pytest.raises(TransitError, match="names a file, and no function") as caught:
        registry.build(str(tmp_path / "own.py"), {"global": 20})
    assert caught.value.fix.startswith(f"--network {tmp_path / 'own.py'}:mapped or --network ")
    with pytest.raises(TransitError) as caught:
        registry.build("nothing.py", {"global": 20})
    assert caught.value.fix == "--network nothing.py:build"
