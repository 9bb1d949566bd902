"""GRU and LSTM over sequences, in the place of torch.nn's."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from .. import cudnn, dynamo, ops
from ..ops import bidirectional
from ..ops.recurrence import check_sequence, given
from ..recording import recorded

States = tuple[Tensor, ...]  # h, of an LSTM (h, c)


def padded_dropout(x: Tensor, p: float) -> Tensor:
    """Dropout of x (B, T, F) that draws as torch.nn's does on a CPU, over (T, B, F): the same seed, the same masks."""
    batch, steps, width = x.shape
    return x * nn.functional.dropout(x.new_ones(steps, batch, width), p).transpose(0, 1)


def packed_dropout(x: Tensor, p: float, batch_sizes: Tensor) -> Tensor:
    """As ``padded_dropout``; torch.nn's draws over a PackedSequence's data."""
    drawn = nn.functional.dropout(x.new_ones(int(batch_sizes.sum()), x.shape[2]), p)
    return x * pad_packed_sequence(PackedSequence(drawn, batch_sizes), batch_first=True)[0]


class Recurrent(nn.RNNBase):
    """Layers, directions, dropout and input layouts; a subclass supplies one layer in one direction.

    A subclass derives from nn.GRU or nn.LSTM as well, which gives the parameters, their names and their initial
    values, and what other code asks of such a module: isinstance, all_weights, check_forward_args, ...
    """

    _recorded_as_torch = True
    # The op of a layer in both directions, where two calls of _layer would compute the same.
    _bidirectional: Callable[..., tuple[Tensor, ...]] | None = None

    def flatten_parameters(self) -> None:
        """As torch.nn's, in bfloat16 too."""
        super().flatten_parameters()
        cudnn.flatten(self)

    def _layer(
        self,
        x: Tensor,
        states: States,
        weights: Sequence[Tensor],
        lengths: Tensor | None,
        reverse: bool,
        resets: Tensor | None = None,
        reset_states: States | None = None,
    ) -> tuple[Tensor, States]:
        """(output, states) of one layer in one direction; a state is a tuple of (B, H) tensors, reset_states one of
        (B, T, H) or None."""
        raise NotImplementedError

    def _both_layers(
        self, x: Tensor, states: Sequence[States], weights: Sequence[Sequence[Tensor]], lengths: Tensor | None
    ) -> tuple[Tensor, States]:
        """(output, states) of one layer in both directions; states: of each, and in the result tensors (2, B, H)."""
        of_each = [
            (state[0] if self._num_states == 1 else state, *weight, *[None] * (4 - len(weight)))
            for state, weight in zip(states, weights, strict=True)
        ]
        output, *last = self._bidirectional(x, *of_each[0], *of_each[1], lengths=lengths)
        return output, tuple(last)

    def _to_states(self, hx: Any, name: str = "hx") -> States:
        """The tuple of state tensors in the user's hx."""
        raise NotImplementedError

    def _from_states(self, states: States) -> Any:
        raise NotImplementedError

    def _forward(
        self,
        x: Tensor,
        hx: States | None,
        lengths: Tensor | None,
        batch_sizes: Tensor | None = None,
        dropout: Callable[[Tensor, float], Tensor] = padded_dropout,
        resets: Tensor | None = None,
        reset_states: States | None = None,
    ) -> tuple[Tensor, States]:
        """Batch-first x (B, T, I), hx a tuple of (layers * directions, B, H) or None, resets (B, T) or None,
        reset_states a tuple of (layers * directions, B, T, H) or None.

        batch_sizes: x is a PackedSequence's data, for cuDNN.
        """
        layers = [[getattr(self, name) for name in names] for names in self._all_weights]
        batch = x.shape[0] if batch_sizes is None else int(batch_sizes[0])
        shape = (len(layers), batch, self.hidden_size)
        if hx is None:
            hx = (x.new_zeros(shape),) * self._num_states
        for state in hx:
            if state.shape != shape:
                raise ValueError(
                    f"hx has shape {tuple(state.shape)}, expected (num_layers * directions, batch, hidden_size) = "
                    f"{shape}"
                )
        if lengths is None and resets is None and reset_states is None and cudnn.takes_stack(x):
            first = x if batch_sizes is None else x[:batch, None]
            states, weights = zip(("h0", "c0"), (state[0] for state in hx), strict=False), layers[0]
            check_sequence(len(hx) + 2, first, tuple(states), *weights, *[None] * (4 - len(weights)), None)
            return cudnn.stack(self, x, hx, [w for weights in layers for w in weights], batch_sizes)
        directions = 2 if self.bidirectional else 1
        both = self._bidirectional if directions == 2 and resets is None and reset_states is None else None
        last = []
        for i in range(0, len(layers), directions):
            if i > 0 and self.dropout > 0 and self.training:
                x = dropout(x, self.dropout)
            if both is not None:
                states = [tuple(state[i + d] for state in hx) for d in range(2)]
                x, states = self._both_layers(x, states, layers[i : i + 2], lengths)
                last.extend(zip(*states, strict=True))
                continue
            outputs = []
            for d in range(directions):
                states, begin = (y and tuple(state[i + d] for state in y) for y in (hx, reset_states))
                options = given(None, False, resets, begin)  # a subclass may know of none
                output, states = self._layer(x, states, layers[i + d], lengths, reverse=d == 1, **options)
                outputs.append(output)
                last.append(states)
            x = outputs[0] if directions == 1 else torch.cat(outputs, -1)
        return x, tuple(torch.stack(states) for states in zip(*last, strict=True))

    def _forward_packed(self, packed: PackedSequence, hx: States | None) -> tuple[PackedSequence, States]:
        # As torch.nn: the packed data is in sorted order, hx and the states returned in the caller's.
        batch_sizes = packed.batch_sizes
        if hx is not None and packed.sorted_indices is not None:
            hx = tuple(state.index_select(1, packed.sorted_indices) for state in hx)
        if cudnn.takes_stack(packed.data):
            data, states = self._forward(packed.data, hx, None, batch_sizes)
        else:
            padded, lengths = pad_packed_sequence(PackedSequence(packed.data, batch_sizes), batch_first=True)
            dropout = partial(packed_dropout, batch_sizes=batch_sizes)
            output, states = self._forward(padded, hx, lengths.to(padded.device), dropout=dropout)
            data = pack_padded_sequence(output, lengths, batch_first=True).data
        if packed.unsorted_indices is not None:
            states = tuple(state.index_select(1, packed.unsorted_indices) for state in states)
        return PackedSequence(data, batch_sizes, packed.sorted_indices, packed.unsorted_indices), states

    def _hand_out(self, output: Tensor, time_first: bool) -> Tensor:
        """``output`` (B, T, F) as torch.nn's, which may be changed in place on a CPU, where the op's is saved for
        backward, and of which a dropout that follows draws its mask in the order of memory: by time."""
        saved = output.requires_grad and output.is_cpu and not self.bidirectional  # else it is a copy already
        if not (time_first or saved or (self.training and torch.is_grad_enabled())):
            return output
        output = output.transpose(0, 1)
        copy = output.clone(memory_format=torch.contiguous_format) if saved else output.contiguous()
        return copy if time_first else copy.transpose(0, 1)

    def _reset_states(self, input: Tensor, reset_states: States) -> States:
        """reset_states of a batch, checked and batch-first."""
        expected = (len(self._all_weights), *input.shape[:2], self.hidden_size)
        for state in reset_states:
            if state.shape != expected:
                order = "batch, steps" if self.batch_first else "steps, batch"
                raise ValueError(
                    f"reset_states has shape {tuple(state.shape)}, expected (num_layers * directions, {order}, "
                    f"hidden_size) = {expected}"
                )
        return reset_states if self.batch_first else tuple(state.transpose(1, 2) for state in reset_states)

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        reset_states: Any = None,
    ) -> tuple[Any, Any]:
        """``(output, h_n)`` of a GRU, ``(output, (h_n, c_n))`` of an LSTM, as torch.nn's.

        Args:
            input: (T, B, input_size), (B, T, input_size) with ``batch_first``, (T, input_size) unbatched, or a
                PackedSequence, which makes the output one too.
            hx: initial state (num_layers * directions, B, hidden_size), unbatched without B; an LSTM takes a pair.
                Zeros when None.
            lengths: (B,) integer, on the input's device: the number of valid steps in each row. The output is
                then zero past them, a reverse direction starts at each row's last valid step, and h_n is the
                state after it: what packing the input computes, without packing it. What the input holds past a
                row's length is ignored, NaN included.
            resets: bool, (B, T) with ``batch_first`` and (T, B) without, of a padded batch: where True, the states of
                that row are replaced before that step, in every layer and direction; the reverse direction reads its
                steps backwards, so there it is the state that came from the step after.
            reset_states: what they are replaced by, (num_layers * directions, B, T, hidden_size), or
                (num_layers * directions, T, B, hidden_size) without ``batch_first``; an LSTM takes a pair; read where
                there is a reset and nowhere else. Zeros when None.

        Raises:
            ValueError, TypeError: a wrong shape, dtype or device, named in the message.
        """
        options = {"lengths": lengths, "resets": resets, "reset_states": reset_states}
        given = [name for name, x in options.items() if x is not None]
        if self._recorded_as_torch and recorded():
            if lengths is not None:
                raise ValueError("lengths is given, expected None in torch.jit.trace and ONNX export: pack the input")
            if given:
                raise ValueError(f"{given[0]} is given, expected None in torch.jit.trace and ONNX export")
            return super().forward(input, hx)
        states = None if hx is None else self._to_states(hx)
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError("lengths is given, expected None with a PackedSequence, which has its own")
            if given:
                raise ValueError(f"{given[0]} is given, expected None with a PackedSequence")
            output, states = self._forward_packed(input, states)
            return output, self._from_states(states)
        if not isinstance(input, Tensor):
            raise TypeError(f"input is a {type(input).__name__}, expected a torch.Tensor or a PackedSequence")
        if input.dim() not in (2, 3):
            raise ValueError(f"input has {input.dim()} dimensions, expected 3, or 2 when unbatched")
        if input.shape[-1] != self.input_size:
            raise ValueError(
                f"input has shape {tuple(input.shape)}, expected a last dimension of input_size = {self.input_size}"
            )
        if input.dim() == 2:
            if given:
                raise ValueError(f"{given[0]} is given, expected None with unbatched input")
            if states is not None:
                states = tuple(state.unsqueeze(1) for state in states)
            output, states = self._forward(input.unsqueeze(0), states, None)
            states = tuple(state.squeeze(1) for state in states)
            return self._hand_out(output, True).squeeze(1), self._from_states(states)
        if reset_states is not None:
            options["reset_states"] = self._reset_states(input, self._to_states(reset_states, "reset_states"))
        if not self.batch_first:
            input = input.transpose(0, 1)
            if isinstance(resets, Tensor) and resets.dim() == 2:  # else the op says what is wrong with it
                options["resets"] = resets.transpose(0, 1)
        output, states = self._forward(input, states, **options)
        return self._hand_out(output, not self.batch_first), self._from_states(states)


class GRU(Recurrent, nn.GRU):
    """torch.nn.GRU with ``s2s_kernels.gru`` inside: same constructor, state_dict and forward, plus ``lengths`` and
    ``resets``.

    Per layer and direction, h' = (1 - z) n + z h, with r, z = sigmoid(W_i x + b_i + W_h h + b_h) and
    n = tanh(W_in x + b_in + r (W_hn h + b_hn)). Unlike nn.GRU it works under
    ``torch.compile(fullgraph=True)`` (with padded input; not a PackedSequence). On a GPU "auto" takes cuDNN where it
    can, as nn.GRU does: see s2s_kernels/cudnn.py.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype: as nn.GRU.
    """

    _num_states = 1
    _bidirectional = staticmethod(bidirectional.gru_bidirectional)

    def _layer(
        self,
        x: Tensor,
        states: States,
        weights: Sequence[Tensor],
        lengths: Tensor | None,
        reverse: bool,
        resets: Tensor | None = None,
        reset_states: States | None = None,
    ) -> tuple[Tensor, States]:
        options = {"lengths": lengths, "reverse": reverse, "resets": resets}
        output, h_n = ops.gru(x, *states, *weights, **options, reset_states=reset_states and reset_states[0])
        return output, (h_n,)

    def _to_states(self, hx: Any, name: str = "hx") -> States:
        if not isinstance(hx, Tensor):
            raise TypeError(f"{name} is a {type(hx).__name__}, expected a tensor")
        return (hx,)

    def _from_states(self, states: States) -> Tensor:
        return states[0]


class LSTM(Recurrent, nn.LSTM):
    """torch.nn.LSTM with ``s2s_kernels.lstm`` inside: same constructor, state_dict and forward, plus ``lengths`` and
    ``resets``.

    Per layer and direction, c' = f c + i g and h' = o tanh(c'), with i, f, o = sigmoid and g = tanh of
    W_i x + b_i + W_h h + b_h. Unlike nn.LSTM it works under ``torch.compile(fullgraph=True)`` (with padded
    input; not a PackedSequence). On a GPU "auto" takes cuDNN where it can, as nn.LSTM does: see s2s_kernels/cudnn.py.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype: as nn.LSTM.
        proj_size: only 0.
    """

    _num_states = 2
    _bidirectional = staticmethod(bidirectional.lstm_bidirectional)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.proj_size != 0:
            raise ValueError(f"proj_size is {self.proj_size}, expected 0: projections are only in torch.nn.LSTM")

    def _layer(
        self,
        x: Tensor,
        states: States,
        weights: Sequence[Tensor],
        lengths: Tensor | None,
        reverse: bool,
        resets: Tensor | None = None,
        reset_states: States | None = None,
    ) -> tuple[Tensor, States]:
        options = {"lengths": lengths, "reverse": reverse, "resets": resets, "reset_states": reset_states}
        return ops.lstm(x, states, *weights, **options)

    def _to_states(self, hx: Any, name: str = "hx") -> States:
        if not isinstance(hx, (tuple, list)) or len(hx) != 2 or not all(isinstance(x, Tensor) for x in hx):
            raise TypeError(f"{name} is a {type(hx).__name__}, expected a pair (h_0, c_0) of tensors")
        return tuple(hx)

    def _from_states(self, states: States) -> States:
        return states


dynamo.trace(GRU, LSTM)
