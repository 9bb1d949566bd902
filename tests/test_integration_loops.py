"""What the integrations share, on a decoder of our own in place of a package's; the packages: tests/integrations."""

import copy
import io

import pytest
import torch
from torch import nn

import s2s_kernels as sk
from s2s_kernels.integrations import loop

ROWS, STEPS, SOURCE, SIZE, LAYERS = 3, 4, 5, 6, 2


class Decoder(nn.Module):
    """A package's: its cells first, on [word ; attentional vector], each dropped out; dot scores."""

    def __init__(self, dropout=0.3, scale=1.0):
        super().__init__()
        self.rnn = nn.GRU(2 * SIZE, SIZE, LAYERS, batch_first=True, dropout=dropout)
        self.out = nn.Linear(2 * SIZE, SIZE)
        self.drop, self.scale = nn.Dropout(dropout), scale
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x, hidden, memory):
        self.calls += 1
        fed, found = x.new_zeros(len(x), SIZE), []
        for t in range(x.shape[1]):
            _, hidden = self.rnn(self.drop(torch.cat([x[:, t], fed], 1))[:, None], hidden)
            weights = (memory @ hidden[-1][:, :, None] * self.scale).softmax(1)
            fed = self.out(self.drop(torch.cat([hidden[-1], (weights * memory).sum(1)], 1))).tanh()
            found.append(fed)
        return torch.stack(found, 1), hidden


class Fused(loop.Loop):
    def obstacle(self):
        return loop.unlike(self, rnn=nn.GRU, out=nn.Linear, drop=nn.Dropout)

    def trial(self):
        x = torch.linspace(-1, 1, 2 * 3 * SIZE).view(2, 3, SIZE).to(self.out.weight)
        return self(x, x[:, :2].transpose(0, 1).contiguous(), x)

    def forward(self, x, hidden, memory):
        rows, steps, _ = x.shape
        wide, narrow = (rows, 2 * SIZE), (rows, SIZE)
        fed, *between, attended = loop.draw_masks(
            steps, x, (self.drop, wide), (loop.between_layers(self.rnn), narrow), (self.drop, wide)
        )
        x, fed = (x, None) if fed is None else (x * fed[..., :SIZE], fed[..., SIZE:])
        out, hidden = loop.attention_loop(
            x,
            hidden,
            loop.all_weights(self.rnn),
            *(memory, memory, None, None, None),
            w_feed=self.out.weight,
            b_feed=self.out.bias,
            first_feed=x.new_zeros(rows, SIZE),
            drop_fed=fed,
            drop_attended=loop.one_before(attended),
            drop_layers=loop.stack_masks(between),
        )
        return out.feeds[:, 1:], hidden


class OtherFused(Fused):
    """Of another package, whose decoders have another class."""


def convert(model):
    return loop.swap(model, {Decoder: Fused})


def build(**options):
    torch.manual_seed(0)
    model = nn.ModuleDict({"decoder": Decoder(**options), "encoder": nn.GRU(SIZE, SIZE)}).double()
    x, memory = torch.randn(ROWS, STEPS, SIZE).double(), torch.randn(ROWS, SOURCE, SIZE).double()
    return model, (x, torch.randn(LAYERS, ROWS, SIZE).double(), memory)


def train(model, inputs):
    torch.manual_seed(1)
    model.zero_grad()
    outputs, hidden = model["decoder"].train()(*inputs)
    (outputs.square().sum() + hidden.sum()).backward()
    return [outputs, hidden, *(p.grad.clone() for p in model["decoder"].parameters())]


def test_a_converted_decoder_draws_the_same_masks_and_trains_alike():
    model, inputs = build()
    truth, keys = train(model, inputs), list(model.state_dict())
    parameters = list(model.parameters())
    assert convert(model) is model
    for ours, theirs in zip(train(model, inputs), truth, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert list(model.state_dict()) == keys
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))


def test_it_is_what_it_was_to_type_and_isinstance():
    model, _ = build()
    decoder = convert(model)["decoder"]
    assert isinstance(decoder, Decoder) and type(decoder) in {Decoder} and type(decoder) is not Decoder
    assert isinstance(convert(model)["decoder"], Fused)  # once more changes nothing


@pytest.mark.parametrize("revert", [sk.revert, lambda model: loop.restore(model, Fused)])
def test_it_reverts_to_the_same_bits(revert):
    model, inputs = build()
    truth = train(model, inputs)
    assert revert(convert(model)) is model
    assert type(model["decoder"]) is Decoder
    assert all(torch.equal(a, b) for a, b in zip(train(model, inputs), truth, strict=True))


def test_an_integration_undoes_its_own_alone():
    model, _ = build()
    sk.convert(convert(model))
    loop.restore(model, OtherFused)
    assert isinstance(model["decoder"], Fused)
    loop.restore(model, Fused)
    assert type(model["decoder"]) is Decoder and isinstance(model["encoder"], sk.nn.GRU)
    assert type(sk.revert(model)["encoder"]) is nn.GRU


def through_file(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, through_file])
def test_a_copy_is_converted_too(duplicate):
    model, inputs = build()
    truth = train(convert(model), inputs)
    twin = duplicate(model)
    assert isinstance(twin["decoder"], Fused)
    assert all(torch.equal(a, b) for a, b in zip(train(twin, inputs), truth, strict=True))
    assert type(sk.revert(twin)["decoder"]) is Decoder


def test_parametrised_weights_and_converted_cells_go_on_working():
    model, inputs = build()
    nn.utils.parametrizations.weight_norm(model["decoder"].out)
    truth = train(model, inputs)
    sk.convert(convert(model))
    assert isinstance(model["decoder"].rnn, sk.nn.GRU)
    for ours, theirs in zip(train(model, inputs), truth, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_the_trial_leaves_no_trace():
    model, _ = build()
    model["decoder"].rnn.eval()
    modes, state = [m.training for m in model.modules()], torch.get_rng_state()
    convert(model)
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert model["decoder"].calls == 0


def test_another_formula_is_refused_and_nothing_changed():
    model, _ = build()
    both = nn.ModuleList([model, Decoder(scale=0.5)])
    with pytest.raises(ValueError, match=r"^1 cannot be converted: in evaluation it gives other numbers"):
        convert(both)
    assert type(model["decoder"]) is Decoder and type(both[1]) is Decoder


def test_dropout_elsewhere_is_another_formula():
    class Spread(Decoder):
        def __init__(self):
            super().__init__()
            self.out.register_parameter("bias", None)
            self.drop = nn.Dropout(0.0)
            self.rnn.dropout = 0.0

    class Dropping(Fused):
        def forward(self, x, hidden, memory):
            return super().forward(nn.functional.dropout(x, 0.5, self.training), hidden, memory)

    with pytest.raises(ValueError, match="in training it gives other numbers"):
        loop.swap(Spread(), {Decoder: Dropping})


def with_hook(decoder):
    decoder.out.register_forward_hook(lambda *args: None)


def with_its_own_forward(decoder):
    class Mine(Decoder):
        def forward(self, *args):
            return super().forward(*args)

    decoder.__class__ = Mine


def with_an_attribute(decoder):
    decoder.forward = decoder.forward


def with_another_part(decoder):
    decoder.out = nn.Sequential(decoder.out)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (with_hook, r"^decoder \(Decoder\) cannot be converted: out has a hook"),
        (with_its_own_forward, r"^decoder \(Mine\) cannot be converted: Mine has its own forward$"),
        (with_an_attribute, r"^decoder \(Decoder\) cannot be converted: its forward is an attribute of its own$"),
        (with_another_part, r"^decoder \(Decoder\) .* out is a Sequential, expected a Linear$"),
    ],
)
def test_what_cannot_be_converted_is_refused(change, said):
    model, _ = build()
    change(model["decoder"])
    before = type(model["decoder"])
    with pytest.raises(ValueError, match=said):
        convert(model)
    assert type(model["decoder"]) is before


def test_a_model_without_such_a_decoder_is_refused():
    with pytest.raises(ValueError, match=r"^the Linear has no Decoder: expected a model with one$"):
        convert(nn.Linear(1, 1))
    with pytest.raises(TypeError, match=r"^model is a int, expected a torch\.nn\.Module$"):
        convert(1)


def test_masks_are_of_the_loops_order_and_none_where_nothing_drops():
    like, drop, other = torch.empty(0).double(), nn.Dropout(0.5), nn.Dropout(0.25)
    torch.manual_seed(0)
    a, b, none = loop.draw_masks(3, like, (drop, (2, 4)), (other, (2, 1)), (nn.Dropout(0.5).eval(), (2, 4)))
    torch.manual_seed(0)
    for t in range(3):
        assert torch.equal(a[:, t], drop(torch.ones(2, 4).double()))
        assert torch.equal(b[:, t], other(torch.ones(2, 1).double()))
    assert none is None and a.dtype == torch.float64 and {*a.unique().tolist()} <= {0.0, 2.0}
    assert loop.draw_masks(3, like, (drop.eval(), (2, 4))) == [None]


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_layers_one_after_another_are_those_of_torch(kind):
    torch.manual_seed(0)
    rnn = kind(SIZE, SIZE, 2, batch_first=True, bias=False, dropout=0.5).double()
    x, state = torch.randn(ROWS, STEPS, SIZE).double(), torch.randn(2, ROWS, SIZE).double()
    state = (state, -state) if kind is nn.LSTM else state
    torch.manual_seed(1)
    truth, last = rnn(x, state)
    torch.manual_seed(1)
    # Of a whole sequence torch draws once.
    mask = nn.functional.dropout(torch.ones(STEPS, ROWS, SIZE).double()).transpose(0, 1)
    ours, end = loop.recurrence(x, state, loop.all_weights(rnn), [mask])
    torch.testing.assert_close(ours, truth, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(end, last, rtol=1e-12, atol=1e-12)


def test_dot_attention_of_a_row_without_a_source_is_zero():
    query, keys = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 5, 4)
    mask = torch.tensor([[True, True, False, False, False], [False] * 5])
    context, weights = loop.attend(query, keys, keys, mask=mask)
    scores = query[0] @ keys[0, :2].T
    torch.testing.assert_close(weights[0, :, :2], scores.softmax(-1))
    torch.testing.assert_close(context[0], scores.softmax(-1) @ keys[0, :2])
    assert not weights[1].any() and not context[1].any() and not weights[0, :, 2:].any()
    context.sum().backward()
    assert query.grad.isfinite().all()
