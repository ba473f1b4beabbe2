"""`network_args`: read by name, refused where they are wrong, and LyCORIS's words in ours."""

import pytest

from library.settings.network_args import parsed_arguments, told_arguments


def test_values_by_their_types(read) -> None:
    words = ["conv_dim=8", "conv_alpha=4", "rs_lora=True", "train_norm=false", "block_dims=2,4,0", "rank_dropout=0.1"]
    settings = read("--network_args", *words)
    assert parsed_arguments(settings) == {
        "conv_dim": 8,
        "conv_alpha": 4.0,
        "rs_lora": True,
        "train_norm": False,
        "block_dims": (2, 4, 0),
        "rank_dropout": 0.1,
    }
    assert told_arguments(settings)["block_dims"] == "2,4,0"
    lokr = read("--network_module", "lokr", "--network_args", "factor=-1", "full_matrix=1")
    assert parsed_arguments(lokr) == {"factor": -1, "full_matrix": True}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("conv_dimm=4", "lora knows no argument conv_dimm; did you mean 'conv_dim'?"),
        ("factor=4", "lora knows no argument factor"),
        ("conv_dim=x", "conv_dim must be a whole number, not 'x'."),
        ("conv_dim=1.5", "conv_dim must be a whole number"),
        ("rank_dropout=1", "rank_dropout must be between 0 and 1"),
        ("train_norm=perhaps", "train_norm must be True or False"),
        ("block_dims=a,b", "block_dims must be numbers with commas"),
        ("conv_dim=4 --conv_dim 8", "conv_dim is 8 and 4 in network_args; keep one of them."),
        ("unit=0 --network_module dylora", "unit must be at least 1"),
        ("train_norm=1 --save_model_as diffusers", "save_model_as = diffusers has no place for lora or norms"),
    ],
)
def test_wrong_arguments(words: str, told: str, complaints) -> None:
    said = complaints("--network_args", *words.split())
    assert len(said) == 1 and told in said[0], said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--network_module loha --save_model_as diffusers", "diffusers has no place for loha"),
        ("--network_module lokr --scale_weight_norms 1", "scale_weight_norms is for network_module = lora"),
        ("--network_preset full --network_layers attn2", "network_preset and network_layers both say"),
        ("--network_layers [", "network_layers: '[' is no regular expression"),
    ],
)
def test_what_a_kind_cannot_do(words: str, told: str, complaints) -> None:
    said = complaints(*words.split())
    assert len(said) == 1 and told in said[0], said


LORA_SCRIPTS = """
[additional_network]
network_module = "lycoris.kohya"
network_dim = 32
network_alpha = 16
network_args = ["conv_dim=4", "conv_alpha=1", "dropout=0.1", "algo={}", "block_size=4", "disable_conv_cp=True"]
"""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--network_module dora", "quantize_base = nf4: network_module = dora needs the frozen weights whole; choose"),
        ("--network_module full", "needs the frozen weights whole"),
        ("--compile regional", "quantize_base = nf4 and compile = regional cannot be combined"),
    ],
)
def test_what_few_bits_cannot_do(words: str, told: str, complaints) -> None:
    assert any(told in sentence for sentence in complaints("--quantize_base", "nf4", *words.split()))


def test_what_few_bits_can_do(read) -> None:
    assert read("--quantize_base", "int8", "--network_module", "lokr").quantize_base == "int8"


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [
        ("locon", "lora"),
        ("lora", "lora"),
        ("loha", "loha"),
        ("lokr", "lokr"),
        ("full", "full"),
        ("diag-oft", "oft"),
        ("boft", "boft"),
        ("dylora", "dylora"),
        ("ia3", "ia3"),
    ],
)
def test_lycoris_runs_unchanged(algorithm: str, kind: str, read) -> None:
    settings = read(toml=LORA_SCRIPTS.format(algorithm))
    assert (settings.network_module, settings.network_dropout) == (kind, 0.1)
    assert settings.network_preset == ("ia3" if kind == "ia3" else "full")
    expected = {"conv_dim": 4, "conv_alpha": 1.0} | ({"unit": 4} if kind == "dylora" else {})
    assert parsed_arguments(settings) == expected


def test_lycoris_arguments(read, complaints) -> None:
    lycoris = ["--network_module", "LyCORIS.kohya", "--network_args"]
    dora = read(*lycoris, "algo=lora", "dora_wd=True", "preset=attn-mlp")
    assert (dora.network_module, dora.network_preset, dora.network_args) == ("dora", "attn-mlp", ())
    assert read(*lycoris, "algo=lokr", "factor=8", "use_tucker=False").network_args == ("factor=8",)
    only = read(*lycoris, "preset=unet-transformer-only")
    assert only.network_module == "lora" and only.network_train_unet_only
    for words, told in (
        (["algo=glora"], "algo must be lora, locon"),
        (["algo=loha", "dora_wd=True"], "dora_wd is for algo = lora, not loha"),
        (["algo=full", "use_cp=True"], "use_tucker is not supported"),
        (["use_scalar=True"], "use_scalar is not supported"),
        (["preset=all"], "preset must be attn-only"),
    ):
        said = complaints(*lycoris, *words)
        assert len(said) == 1 and told in said[0], said


@pytest.mark.parametrize("name", ["lora", "lora_fa", "dylora", "loha", "lokr"])
def test_modules_of_sd_scripts(name: str, read) -> None:
    assert read("--network_module", f"networks.{name}").network_module == name


def test_presets_without_text_train_the_unet_alone(read) -> None:
    assert read("--network_preset", "unet-only").network_train_unet_only
    assert not read("--network_preset", "full").network_train_unet_only


def test_an_alpha_without_an_effect_is_said(read, capsys: pytest.CaptureFixture[str]) -> None:
    read("--network_module", "ia3", "--network_alpha", "3")
    assert "network_alpha changes nothing with network_module = ia3" in capsys.readouterr().err


def test_a_hypernetwork_is_told_its_own_things_alone(read, complaints) -> None:
    kind = ["--network_module", "hypernetwork"]
    settings = read(*kind, "--network_args", "layer_structure=1, 2, 0.5, 1", "activation_func=swish")
    assert parsed_arguments(settings) == {"layer_structure": (1.0, 2.0, 0.5, 1.0), "activation_func": "swish"}
    assert settings.network_train_unet_only
    for words, told in (
        (["--network_args", "conv_dim=4"], "hypernetwork knows no argument conv_dim; there are layer_structure, act"),
        (["--network_args", "layer_structure=2,1"], "layer_structure must begin and end with 1, such as 1,2,1"),
        (["--network_args", "layer_structure=1,0,1"], "layer_structure must begin and end with 1"),
        (["--network_args", "layer_structure=a"], "layer_structure must be numbers with commas, not 'a'"),
        (["--network_args", "activation_func=gelu"], "activation_func must be linear, relu"),
        (["--network_preset", "attn-mlp"], "a hypernetwork is for all attention of the UNet"),
        (["--network_layers", "attn2"], "a hypernetwork is for all attention of the UNet"),
        (["--conv_dim", "4"], "conv_dim has no meaning for network_module = hypernetwork"),
        (["--save_model_as", "diffusers"], "diffusers has no place for hypernetwork"),
        (["--scale_weight_norms", "1"], "scale_weight_norms is for network_module = lora"),
    ):
        said = complaints(*kind, *words)
        assert len(said) == 1 and told in said[0], said
    said = complaints(*kind, "--network_train_text_encoder_only")
    assert any("a hypernetwork has no part in the text encoder" in each for each in said), said


@pytest.mark.parametrize(
    ("words", "preset", "layers"),
    [
        ([], "attn-only", 0),
        (["enable_all_linear=True"], "unet-transformer-only", 0),
        (["enable_all_linear=True", "enable_conv=True"], "unet-only", 0),
        (["enable_conv=True", "enable_all_linear=False"], None, 2),
    ],
)
def test_oft_of_sd_scripts(words: list[str], preset: str | None, layers: int, read, capsys) -> None:
    toml = "[a]\nnetwork_module = 'networks.oft'\nnetwork_dim = 8\nnetwork_alpha = 0.01\n"
    settings = read(toml=f"{toml}network_args = {words}")
    assert (settings.network_module, settings.network_preset, len(settings.network_layers)) == ("oft", preset, layers)
    assert parsed_arguments(settings) == {"num_blocks": 8, "constraint": 0.01}
    assert settings.network_train_unet_only and "network_alpha" not in capsys.readouterr().err
    usual = read("--network_module", "networks.oft", "--network_dim", "4")
    assert parsed_arguments(usual) == {"num_blocks": 4, "constraint": 0.001}


def test_a_constraint_of_lycoris(read, complaints) -> None:
    lycoris = ["--network_module", "lycoris.kohya", "--network_args"]
    assert parsed_arguments(read(*lycoris, "algo=diag-oft", "constraint=0.01")) == {"constraint": 0.01}
    assert "constraint is not supported" in complaints(*lycoris, "algo=loha", "constraint=1")[0]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("networks.lora_flux", "models of another kind"),
        ("networks.oft_flux", "models of another kind"),
        ("networks.control_net_lllite", "control networks are not trained here"),
    ],
)
def test_modules_for_something_else_are_refused(name: str, told: str, complaints) -> None:
    said = complaints("--network_module", name)
    assert len(said) == 1 and told in said[0] and name in said[0], said


@pytest.mark.parametrize("name", ["use_tucker", "use_cp", "use_conv_cp"])
@pytest.mark.parametrize("algorithm", ["locon", "loha", "lokr"])
def test_cores_by_all_their_names(name: str, algorithm: str, read, complaints) -> None:
    lycoris = ["--network_module", "lycoris.kohya", "--network_args", f"algo={algorithm}"]
    assert parsed_arguments(read(*lycoris, f"{name}=True")) == {"use_tucker": True}
    off = parsed_arguments(read(*lycoris, f"{name}=False"))
    assert off in ({}, {"use_tucker": False})
    if algorithm == "locon":
        said = complaints(*lycoris, f"{name}=True", "--scale_weight_norms", "1")
        assert len(said) == 1 and "use_tucker puts a third between them" in said[0], said
