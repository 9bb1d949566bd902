"""TorchRL: a recurrent Q network of LSTMModule or GRUModule, trained by DQNLoss on batches with resets inside.

DQNLoss copies the network with its parameters on the meta device and puts others in for every call.
"""

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torchrl.modules import MLP, GRUModule, LSTMModule, QValueModule, set_recurrent_mode
from torchrl.objectives import DQNLoss

from .case import Case, Size

PINS = [
    "torchrl==0.14.1",
    "tensordict==0.14.3",
    "cloudpickle==3.1.3",
    "hoptorch==0.1.4",
    "importlib_metadata==8.7.0",
    "lazy-importer==0.1.0",
    "orjson==3.13.0",
    "pyvers==0.2.3",
    "zipp==3.23.0",
]

OBSERVED, ACTIONS = 5, 3
STATES = {LSTMModule: ["recurrent_state_h", "recurrent_state_c"], GRUModule: ["recurrent_state"]}


def rollout(size: Size, kind, layers):
    """A batch (B, T) of experience in which rows start anew at steps of their own."""
    shape = (size.batch, size.steps)

    def observations():
        found = {"observation": torch.randn(*shape, OBSERVED), "is_init": torch.zeros(*shape, 1, dtype=torch.bool)}
        return found | {name: torch.randn(*shape, layers, size.hidden) for name in STATES[kind]}

    data = TensorDict(observations(), shape)
    data["next"] = TensorDict(observations(), shape)
    for row in range(size.batch):
        data["is_init"][row, (row + 2) % size.steps] = True
    data["is_init"][:, 0] = True
    data["next", "reward"] = torch.randn(*shape, 1)
    data["next", "done"] = data["is_init"].roll(-1, 1)
    data["next", "terminated"] = data["next", "done"].clone()
    data["action"] = torch.nn.functional.one_hot(torch.randint(ACTIONS, shape), ACTIONS)
    return data


def case(kind, layers, converted=1, left=0, note="", **options):
    def make(size: Size) -> Case:
        hidden = size.hidden
        model = TensorDictSequential(
            TensorDictModule(MLP(OBSERVED, hidden, num_cells=[hidden]), ["observation"], ["embed"]),
            kind(hidden, hidden, layers, in_key="embed", out_key="embed", **options),
            TensorDictModule(MLP(hidden, ACTIONS, num_cells=[hidden]), ["embed"], ["action_value"]),
            QValueModule(action_space="one_hot"),
        )
        data = rollout(size, kind, layers)

        def stepped(model):
            """As a collector calls it: one step after the other, the state carried in the tensordict."""
            state, values = data[:, 0].select("observation", "is_init", *STATES[kind]), []
            for step in range(size.steps):
                state = model(state.update(data[:, step].select("observation", "is_init")))
                values.append(state["action_value"])
                state = state.exclude("next").update(state["next"])
            return [torch.stack(values, 1), state["action"], *(state[name] for name in STATES[kind])]

        def forward(model):
            with set_recurrent_mode(True):
                whole = model(data.exclude("next").clone())
            last = [whole["next", name] for name in STATES[kind]]
            return [whole["action_value"], whole["embed"], *last, *stepped(model)]

        def loss(model):
            with set_recurrent_mode(True):
                return DQNLoss(model, action_space="one_hot", delay_value=True)(data.clone())["loss"]

        def decode(model):
            with torch.no_grad():
                return stepped(model)

        return Case(
            model=model,
            outputs=forward,
            loss=loss,
            converted=converted,
            left=left,
            decode=decode,
            note=note,
        )

    return make


CASES = {
    "LSTMModule, DQN": case(LSTMModule, 1),
    "LSTMModule, 2 layers, DQN": case(LSTMModule, 2),
    "GRUModule, DQN": case(GRUModule, 1),
    "GRUModule, 2 layers, DQN": case(GRUModule, 2),
    "GRUModule, scan": case(
        GRUModule, 1, recurrent_backend="scan", note="scan reads the weights itself: only single steps are fused"
    ),
    "LSTMModule, python_based": case(
        LSTMModule, 1, converted=0, left=1, python_based=True, note="TorchRL's own LSTM, in Python, is no nn.LSTM"
    ),
}
