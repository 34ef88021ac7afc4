"""Makes the built-in model: tokenizer, configuration, weights, from text that the project itself generates.

    python -m scripts.train_guide FOLDER

The same arguments on the same machine give the same model.
"""

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from host.blas import preload
from scripts.guide.conversation import Conversation
from scripts.guide.corpus import Corpus
from scripts.guide.tokenizer import END, PAD, save_tokenizer, train_tokenizer

CONTEXT = 8192
HEADS = 4
THETA = 500_000.0
"""Slow enough that half of each head compares tokens whatever lies between them."""
VOCABULARY = 1536
TOKENIZER_CONVERSATIONS = 15_000


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m scripts.train_guide", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=6500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=160)
    parser.add_argument("--continue", action="store_true", help="from the weights in FOLDER", dest="go_on")
    chosen = parser.parse_args(arguments)
    preload()
    corpus = Corpus()
    if not chosen.go_on:
        make_tokenizer(corpus, chosen.folder, chosen.seed)
        write_config(chosen.folder, chosen.layers, chosen.hidden)
    seconds = train_into(chosen.folder, corpus, chosen.steps, chosen.seed, chosen.go_on)
    print(f"trained in {seconds / 60:.1f} minutes")


def make_tokenizer(corpus: Corpus, folder: Path, seed: int) -> None:
    """Learn the tokens from the conversations themselves."""
    rng = random.Random(seed + 1)
    conversations = (corpus.conversation(rng) for _ in range(TOKENIZER_CONVERSATIONS))
    texts = (text for conversation in conversations for text in _texts(conversation))
    save_tokenizer(train_tokenizer(texts, VOCABULARY), folder, CONTEXT)


def _texts(conversation: Conversation) -> Iterator[str]:
    for turn in conversation.turns:
        yield str(turn["content"])
    if conversation.call is not None:
        call = {"name": conversation.call.name, "arguments": dict(conversation.call.arguments)}
        yield json.dumps(call, ensure_ascii=False)


def write_config(folder: Path, layers: int, hidden: int) -> None:
    """A Llama with tied embeddings, and how it is to be sampled where a client does not say."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": hidden * 3,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 2,
        "head_dim": hidden // HEADS,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": THETA,
        "tie_word_embeddings": True,
        "vocab_size": tokenizer.get_vocab_size(),
        "eos_token_id": tokenizer.token_to_id(END),
        "pad_token_id": tokenizer.token_to_id(PAD),
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    generation = {
        "eos_token_id": config["eos_token_id"],
        "pad_token_id": config["pad_token_id"],
        "do_sample": False,
    }
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


def train_into(folder: Path, corpus: Corpus, steps: int, seed: int, go_on: bool) -> float:
    """Train the model that `folder` describes and save its weights there; returns the seconds."""
    from scripts.guide.encoding import Encoder
    from scripts.guide.network import build, load_weights
    from scripts.guide.start import Shape, start
    from scripts.guide.training import Recipe, train

    config = json.loads((folder / "config.json").read_text())
    network = build(config)
    encoder = Encoder(folder)
    if go_on:
        load_weights(network, folder)
    else:
        shape = Shape(config["hidden_size"], HEADS, config["num_hidden_layers"], THETA)
        start(network, shape, encoder.tokenizer.get_vocab(), seed)
    recipe = Recipe(steps=steps, seed=seed)
    return train(network, corpus, encoder, recipe, folder)


if __name__ == "__main__":
    main()
