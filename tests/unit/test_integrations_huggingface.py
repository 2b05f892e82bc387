"""Models of transformers: their loss and weights under streaming, and the trainer's callback."""

from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from sharpflow.curvature import SharpnessTracker, sharpness
from sharpflow.curvature.reference import dense_hessian
from sharpflow.curvature.streamed_loss import StreamedLoss

transformers = pytest.importorskip("transformers")
ours = import_module("sharpflow.integrations.huggingface")
VOCABULARY = 32


def gpt2(attention="eager", dropout=0.0, **keys):
    """A decoder with tied embeddings and learnt positions, in evaluation mode."""
    config = transformers.GPT2Config(
        **{"vocab_size": VOCABULARY, "n_positions": 12, "n_embd": 16, "n_layer": 2, "n_head": 2}
        | keys,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        attn_implementation=attention,
    )
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(config).eval()


def llama(attention="eager"):
    """A decoder with rotary positions, gates and grouped queries."""
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        attn_implementation=attention,
    )
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config).eval()


def bert(**more):
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        **more,
    )
    return transformers.BertForSequenceClassification(config).eval()


def tokens(count=7, length=8):
    """Rows of different lengths, padded on the right, with a prompt that is not learnt from."""
    stream = torch.Generator().manual_seed(1)
    ids = torch.randint(0, VOCABULARY, (count, length), generator=stream)
    mask, labels = torch.ones_like(ids), ids.clone()
    for row in range(count):
        mask[row, 3 + row % (length - 3) :] = 0
        labels[row, : row % 3] = -100
    labels[mask == 0] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def cut(joined, sizes, kind=dict):
    """Batches of these sizes of the joined one."""
    parts = {name: tensor.split(sizes) for name, tensor in joined.items()}
    return [kind({n: p[i] for n, p in parts.items()}) for i in range(len(sizes))]


@pytest.mark.parametrize("make", [gpt2, llama])
@pytest.mark.parametrize(
    ("attention", "kind"), [("eager", dict), ("sdpa", transformers.BatchEncoding)]
)
def test_unequal_batches_are_the_joined_batch(make, attention, kind):
    model, joined = make(attention), tokens()
    assert model.config._attn_implementation == attention
    batches = cut(joined, [1, 4, 2], kind)
    counts = [ours.label_tokens(batch) for batch in batches]
    assert counts == [int((batch["labels"][:, 1:] != -100).sum()) for batch in batches]
    weight = ours.label_weight(model, batches)
    assert [weight(batch) for batch in batches] == counts
    stream = torch.Generator().manual_seed(2)
    size = sum(p.numel() for p in model.parameters())
    vector = torch.randn(size, generator=stream)

    def product(batches, weight):
        return StreamedLoss(model, ours.huggingface_loss, batches, weight).hessian() @ vector

    whole = product([kind(joined)], weight)
    slack = 1e-5 * float(whole.abs().max())
    torch.testing.assert_close(product(batches, weight), whole, rtol=0, atol=slack)
    by_rows = product(batches, None)
    assert float((by_rows - whole).abs().max()) > 100 * slack, "rows are other weights"


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_it_is_the_top_eigenvalue_of_the_dense_hessian(attention):
    """With the cross-entropy written out in float64: the model's own is in float32."""
    model, joined = gpt2(attention, n_embd=8, n_layer=1).double(), tokens()

    def loss(model, batch):
        rows = ours.huggingface_logits(model, batch)[:, :-1].flatten(0, 1)
        return cross_entropy(rows, batch["labels"][:, 1:].flatten())

    first = "transformer.h.0.attn.c_proj"
    params = {n: p.detach() for n, p in model.named_parameters() if n.startswith(first)}

    def at(p):
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            logits = functional_call(model, p, (), joined).logits
            return cross_entropy(logits[:, :-1].flatten(0, 1), joined["labels"][:, 1:].flatten())

    expected = torch.linalg.eigvalsh(dense_hessian(at, params)).flip(0)[:3]
    batches = cut(joined, [1, 4, 2])
    keys = {"k": 3, "tol": 1e-7, "only": f"{first}.*"}
    tracker = SharpnessTracker(model, loss, batches, weight=ours.label_tokens, **keys)
    torch.testing.assert_close(tracker.measure().values, expected, rtol=1e-6, atol=1e-9)
    own = SharpnessTracker(
        model,
        ours.huggingface_loss,
        batches,
        weight=ours.label_tokens,
        k=1,
        tol=1e-4,
        only=f"{first}.*",
    )
    assert own.measure().values.item() == pytest.approx(float(expected[0]), rel=1e-5)


class Decoder(nn.Module):
    """The face of a model that computes its own loss, in another way than causal ones."""

    def __init__(self, loss):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.loss = nn.Embedding(VOCABULARY, 5), loss

    def forward(self, input_ids, labels, attention_mask=None):
        logits = self.table(input_ids)
        return SimpleNamespace(logits=logits, loss=self.loss(logits, labels))


def unshifted(logits, labels):
    return cross_entropy(logits.flatten(0, -2), labels.flatten().clamp(max=4))


class TestLabelWeight:
    def test_a_model_that_does_not_shift(self):
        batches = cut(tokens(), [1, 4, 2])
        weight = ours.label_weight(Decoder(unshifted), batches)
        assert [weight(each) for each in batches] == [
            int((each["labels"] != -100).sum()) for each in batches
        ]
        model, found = Decoder(unshifted), []
        for parts in (batches, [tokens()]):
            found.append(sharpness(model, ours.huggingface_loss, parts, tol=1e-5, weight=weight))
        assert found[0] == pytest.approx(found[1], rel=1e-5)

    def test_a_classifier_weighs_rows(self):
        model = bert(num_labels=3)
        joined = tokens() | {"labels": torch.arange(7) % 3}
        batches = cut(joined, [1, 4, 2])
        weight = ours.label_weight(model, batches)
        assert [weight(batch) for batch in batches] == [1, 4, 2]

    def test_several_labels_a_row(self):
        model = bert(num_labels=3, problem_type="multi_label_classification")
        joined = tokens() | {"labels": (torch.arange(21).view(7, 3) % 2).float()}
        batches = cut(joined, [1, 4, 2])
        weight = ours.label_weight(model, batches)
        assert [weight(batch) for batch in batches] == [3, 12, 6]

    def test_a_mean_over_something_else_is_refused(self):
        def odd(logits, labels):
            return cross_entropy(
                logits[:, ::2].flatten(0, 1), labels[:, ::2].flatten().clamp(max=4)
            )

        with pytest.raises(ValueError, match="not a mean over the labels"):
            ours.label_weight(Decoder(odd), cut(tokens(), [1, 4, 2]))

    def test_what_has_no_labels_or_logits_is_refused(self):
        model, joined = gpt2(), tokens()
        del joined["labels"]
        with pytest.raises(ValueError, match="holds no labels to count"):
            ours.label_weight(model, [joined])
        with pytest.raises(ValueError, match="does the batch hold labels"):
            sharpness(model, ours.huggingface_loss, [joined])
        detached = Decoder(lambda logits, labels: torch.zeros((), requires_grad=True))
        with pytest.raises(ValueError, match="cannot be read from the logits"):
            ours.label_weight(detached, [tokens()])


# --- the callback, driven by the handler of transformers' Trainer with its own classes:
# --- the Trainer itself needs accelerate


class Rows(Dataset):
    def __init__(self):
        self.joined = tokens(20)

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return {name: tensor[index] for name, tensor in self.joined.items()}


class Arguments(transformers.TrainingArguments):
    """Those of one process, without the set-up that needs accelerate."""

    world_size, process_index = 1, 0

    def __post_init__(self):
        self.logging_strategy = self.eval_strategy = self.save_strategy = "steps"


class Training:
    """The loop of transformers' Trainer, over its handler, state, control and arguments."""

    def __init__(self, folder, callbacks, optimiser=torch.optim.AdamW, dropout=0.1, loader=None):
        self.model = gpt2(dropout=dropout, n_layer=1).train()
        self.args = Arguments(output_dir=str(folder), logging_steps=4)
        self.optimiser = optimiser(self.model.parameters(), lr=1e-2)
        self.scheduler = torch.optim.lr_scheduler.LinearLR(self.optimiser, 1.0, 0.0, 12)
        torch.manual_seed(4)
        self.loader = loader or DataLoader(Rows(), batch_size=5, shuffle=True)
        flow = import_module("transformers.trainer_callback")
        self.handler = self.callback_handler = flow.CallbackHandler(
            [flow.DefaultFlowCallback, *callbacks], self.model, None, self.optimiser, self.scheduler
        )
        self.handler.train_dataloader = self.loader
        self.state = transformers.TrainerState(logging_steps=4, save_steps=6, max_steps=12)
        self.control, self.losses, self.logged = transformers.TrainerControl(), [], []

    log = transformers.Trainer.log

    def resume(self, step):
        folder = f"{self.args.output_dir}/checkpoint-{step}"
        saved = torch.load(f"{folder}/training.pt")
        self.model.load_state_dict(saved["model"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.scheduler.load_state_dict(saved["scheduler"])
        self.state = transformers.TrainerState.load_from_json(f"{folder}/trainer_state.json")

    def save(self):
        folder = f"{self.args.output_dir}/checkpoint-{self.state.global_step}"
        import_module("os").makedirs(folder, exist_ok=True)
        parts = {"model": self.model, "optimiser": self.optimiser, "scheduler": self.scheduler}
        torch.save({n: part.state_dict() for n, part in parts.items()}, f"{folder}/training.pt")
        self.state.save_to_json(f"{folder}/trainer_state.json")
        self.control = self.handler.on_save(self.args, self.state, self.control)

    def run(self, steps=12):
        self.control = self.handler.on_train_begin(self.args, self.state, self.control)
        while self.state.global_step < steps:
            for batch in self.loader:
                self.control = self.handler.on_step_begin(self.args, self.state, self.control)
                loss = self.model(**batch).loss
                loss.backward()
                self.optimiser.step()
                self.scheduler.step()
                self.optimiser.zero_grad()
                self.losses.append(loss.item())
                self.state.global_step += 1
                self.state.epoch = self.state.global_step / len(self.loader)
                self.control = self.handler.on_step_end(self.args, self.state, self.control)
                if self.control.should_log:
                    self.logged.append(self.state.global_step)
                    self.log({"loss": loss.item()})
                if self.control.should_save:
                    self.save()
                if self.state.global_step >= steps:
                    break
        return self


PROBE = cut(tokens(5), [1, 4])


def always(**keys):
    return ours.SharpnessCallback(**({"probe": PROBE, "every": 3, "budget": 1, "tol": 1e-2} | keys))


def numbers(callback):
    return [(r.step, r.values, r.residuals, r.matvecs) for r in callback.monitor.records]


@pytest.mark.parametrize(
    ("optimiser", "factor"), [(torch.optim.AdamW, 38), (torch.optim.SGD, 2)], ids=["adam", "sgd"]
)
def test_it_measures_along_the_training_against_the_present_threshold(optimiser, factor, tmp_path):
    callback = always(tol=1e-3)
    training = Training(tmp_path, [callback], optimiser).run(9)
    records = callback.monitor.records
    assert [record.step for record in records] == [3, 6, 9]
    assert [r.threshold for r in records] == [
        pytest.approx(factor / (1e-2 * (1 - r.step / 12))) for r in records
    ]
    expected = sharpness(
        training.model.eval(),
        ours.huggingface_loss,
        PROBE,
        tol=1e-3,
        weight=ours.label_tokens,
        optimiser=training.optimiser,
    )
    assert records[-1].values[0] == pytest.approx(expected, rel=1e-4)
    history = [line for line in training.state.log_history if "sharpness" in line]
    assert [line["step"] for line in history] == [3, 6, 9]
    assert history[-1] == records[-1].scalars() | {"step": 9, "epoch": 9 / 4}


def test_the_last_step_of_a_linear_schedule_has_no_threshold(tmp_path):
    callback = always()
    Training(tmp_path, [callback]).run(12)
    assert callback.monitor.records[-1].step == 12
    assert callback.monitor.records[-1].threshold == float("inf")


def test_the_training_is_the_same_with_and_without(tmp_path):
    callback = ours.SharpnessCallback(samples=9, every=2, budget=1, tol=1e-2)
    measured, plain = Training(tmp_path, [callback]).run(6), None
    end = torch.random.get_rng_state()
    plain = Training(tmp_path, []).run(6)
    assert len(callback.monitor.records) == 3
    assert measured.losses == plain.losses
    assert torch.equal(end, torch.random.get_rng_state())
    for name, tensor in measured.model.state_dict().items():
        assert torch.equal(tensor, plain.model.state_dict()[name])
    assert all(module.training for module in measured.model.modules())
    batches = callback.monitor.tracker._general.batches
    assert [len(batch["labels"]) for batch in batches] == [5, 4]


def test_a_run_that_is_resumed_goes_on_as_it_would_have(tmp_path):
    loader = [Rows().joined]
    whole, second = always(check_every=2), always(check_every=2)
    Training(tmp_path, [whole], dropout=0.0, loader=loader).run(12)
    assert (tmp_path / "checkpoint-6" / "sharpness.pt").is_file()
    later = Training(tmp_path, [second], dropout=0.0, loader=loader)
    later.resume(6)
    later.run(12)
    assert [step for step, *_ in numbers(second)] == [3, 6, 9, 12]
    assert numbers(second) == numbers(whole)


def test_a_checkpoint_elsewhere(tmp_path):
    first = Training(tmp_path, [always()]).run(6)
    (tmp_path / "checkpoint-6" / "sharpness.pt").rename(tmp_path / "sharpness.pt")
    absent, found = always(), always(resume_from=tmp_path)
    for callback in (absent, found):
        later = Training(tmp_path, [callback])
        later.resume(6)
        if callback is absent:
            with pytest.warns(RuntimeWarning, match="give resume_from"):
                later.run(6)
        else:
            later.run(6)
    assert [len(each.monitor.records) for each in (absent, found)] == [0, 2]
    assert first.state.global_step == 6


def test_reporting_through_the_trainer_leaves_its_own_reports(tmp_path):
    reported = []

    class Report(transformers.TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            reported.append((state.global_step, dict(logs)))

    callback = always(every=4)
    training = Training(tmp_path, [Report, callback])
    callback._logs = [ours.trainer_log(training)]
    training.run(8)
    assert training.logged == [4, 8], "the trainer's own logs are made at the same steps"
    found = [(step, logs["sharpness"]) for step, logs in reported if "sharpness" in logs]
    assert found == [(r.step, r.values[0]) for r in callback.monitor.records]
    assert [step for step, logs in reported if "loss" in logs] == [4, 8]
    history = [line["step"] for line in training.state.log_history if "sharpness" in line]
    assert history == [4, 8]


def test_what_cannot_be_measured_is_refused_before_the_first_step(tmp_path):
    cases = [
        (lambda: Training(tmp_path, [always()], torch.optim.RAdam), "RAdam is not known"),
        (lambda: Training(tmp_path, [always(eval_mode=False)]), "is in training mode"),
        (
            lambda: Training(
                tmp_path, [ours.SharpnessCallback()], loader=[{"input_ids": torch.zeros(1, 2)}]
            ),
            "without numbered samples; give probe",
        ),
    ]
    for make, words in cases:
        training = make()
        with pytest.raises(ValueError, match=words):
            training.run(1)
        assert training.losses == []
        assert all(module.training for module in training.model.modules())


def test_without_the_metric_any_optimiser_will_do(tmp_path):
    callback = always(effective=False)
    Training(tmp_path, [callback], torch.optim.RAdam).run(3)
    assert callback.monitor.records[0].threshold is None
