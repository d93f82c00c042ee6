"""The page: its numbers against the model's and the textbook's, strangers' texts, and the page in a real browser."""

import base64
import json
import re
import shutil
import webbrowser
from html.parser import HTMLParser

import numpy as np
import pytest
import random_model
from conftest import ROOT
from hypothesis import given, strategies as st

import numroberta
from numroberta import textbook, view
from numroberta.cli import main
from numroberta.view.page import MOST_TOKENS, carried_by

TEXTS = ["The cat sat on the <mask>.", "A kitten was sleeping on a rug.", "Prices fell on Monday, naïvely 🐱!"]

NAUGHTY = [
    "</script><script>document.title = 'hit'</script>",
    "<!--<script>",
    "<img src=x onerror=\"document.title = 'hit'\">",
    "]]> &lt;b&gt; &amp; \u2028 \u2029 \\u003c ${1} `x`",
    "{findings} {title} {script-hash} $title",
    "line\nbreak\ttab \x00 \x1b[31m \x7f",
    "\u202eright to left\u202c عربي עברית",
    "e\u0301 ﷽ 👩‍👩‍👧 Ω≈ç√∫ ｱｲｳ",
    "",
    " ",
]


@pytest.fixture(scope="module")
def findings(tiny):
    return view.examine(tiny, TEXTS)


@pytest.fixture(scope="module")
def outputs(tiny):
    """The model's own arrays, a text at a time, in float64."""
    found = []
    for text in TEXTS:
        ids = np.array([tiny.tokenizer(text).ids])
        found.append(tiny.model(ids, output_hidden_states=True, output_attentions=True))
    return found


def maps(findings, text):
    """The page's attention numbers, in thousandths, (layers, heads + 1, n, n)."""
    n = len(findings["texts"][text]["tokens"])
    values = np.frombuffer(base64.b64decode(findings["texts"][text]["attention"]), "<u2")
    return values.reshape(findings["layers"], findings["heads"] + 1, n, n)


# --- numbers -----------------------------------------------------------------------------------------------------


def test_attention_maps_are_the_models_attentions_and_their_means(findings, outputs):
    for text, output in enumerate(outputs):
        heads = np.stack(output.attentions)[:, 0].astype(np.float64)  # (layers, heads, n, n)
        # Texts run together or alone differ by rounding, 1e-7, which may tip a number over into the next thousandth.
        shown = maps(findings, text) / 1000
        np.testing.assert_allclose(shown[:, :-1], heads, rtol=0, atol=0.0005 + 1e-5)
        np.testing.assert_allclose(shown[:, -1], heads.mean(axis=1), rtol=0, atol=0.0005 + 1e-5)


def test_paths_are_the_norms_and_turns_of_the_hidden_states(findings, outputs):
    for shown, output in zip(findings["texts"], outputs, strict=True):
        states = [state[0].astype(np.float64) for state in output.hidden_states]
        for layer, state in enumerate(states):
            for token, vector in enumerate(state):
                assert shown["norms"][layer][token] == pytest.approx(np.sqrt(vector @ vector), abs=0.005 + 1e-4)
                if layer:
                    before = states[layer - 1][token]
                    cosine = vector @ before / np.sqrt(vector @ vector) / np.sqrt(before @ before)
                    assert shown["cosines"][layer - 1][token] == pytest.approx(cosine, abs=0.0005 + 1e-5)


def test_what_the_model_would_write_is_what_the_textbook_says_with_one_token_masked(findings, tiny):
    w = {name: tensor.astype(np.float64) for name, tensor in tiny.checkpoint.tensors.items()}
    ids = np.array(tiny.tokenizer(TEXTS[0]).ids)
    for place in (1, 3, 6):
        masked = np.where(np.arange(len(ids)) == place, tiny.tokenizer.mask_token_id, ids)
        x = textbook.forward(w, masked[None]).last_hidden_state[0, place]
        y = textbook.gelu(textbook.linear(w, "lm_head.dense", x, {}))
        y = textbook.layer_norm(w, "lm_head.layer_norm", y, tiny.config.layer_norm_eps)
        probs = textbook.softmax(y @ w["embeddings.word_embeddings.weight"].T + w["lm_head.bias"])
        best = np.argsort(-probs)[:5]
        shown = findings["texts"][0]["written"][place]
        assert [label for label, _ in shown["top"]] == [tiny.tokenizer.decode(int(i)) for i in best]
        assert [p for _, p in shown["top"]] == pytest.approx(probs[best], abs=0.0005 + 1e-5)
        if place != 6:
            assert shown["own"] == pytest.approx(probs[ids[place]], abs=0.0005 + 1e-5)
            assert shown["rank"] == 1 + np.sum(probs > probs[ids[place]])
        else:
            assert "own" not in shown  # `<mask>` itself stands there


def test_the_frame_is_not_written_and_masks_are_marked(findings):
    for shown in findings["texts"]:
        kinds = [token["kind"] for token in shown["tokens"]]
        assert kinds[0] == kinds[-1] == "frame"
        assert [entry is None for entry in shown["written"]] == [kind == "frame" for kind in kinds]
    assert [token["kind"] for token in findings["texts"][0]["tokens"]].count("mask") == 1


def test_tokens_bytes_joined_are_the_text(findings):
    for text, shown in zip(TEXTS, findings["texts"], strict=True):
        pieces = [bytes.fromhex(token["bytes"]) for token in shown["tokens"] if token["kind"] != "frame"]
        assert b"".join(pieces).decode() == text


def test_similarity_is_the_cosine_of_the_models_mean_vectors(findings, tiny):
    vectors = tiny.encode(TEXTS, normalize_embeddings=True, pooling="mean")
    np.testing.assert_allclose(findings["similarity"], vectors @ vectors.T, rtol=0, atol=0.0005 + 1e-5)


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_what_tokens_add_sums_to_the_cosine(n, m, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((16, n)), rng.standard_normal((16, m))
    a, b = x.mean(axis=1), y.mean(axis=1)
    cosine = a @ b / np.sqrt(a @ a) / np.sqrt(b @ b)
    found = carried_by(x, y)
    assert np.sum(found["pairs"]) == pytest.approx(cosine, abs=n * m * 0.5e-4 + 1e-9)
    assert np.sum(found["left"]) == pytest.approx(cosine, abs=n * 0.5e-3 + 1e-9)
    assert np.sum(found["right"]) == pytest.approx(cosine, abs=m * 0.5e-3 + 1e-9)
    assert found["left"] == pytest.approx(np.sum(found["pairs"], axis=1), abs=0.5e-3 + m * 0.5e-4)


def test_the_page_opens_on_the_head_that_looks_hardest_at_words_further_away(findings, outputs):
    for shown, output in zip(findings["texts"], outputs, strict=True):
        words = [i for i, token in enumerate(shown["tokens"]) if any(map(str.isalnum, token["label"]))]
        words = [i for i in words if shown["tokens"][i]["kind"] != "frame"]
        best = {}
        for layer, heads in enumerate(output.attentions):
            for head, weights in enumerate(heads[0]):
                best[layer, head] = np.mean(
                    [max([weights[i, j] for j in words if abs(i - j) > 1], default=0) for i in words]
                )
        assert best[tuple(shown["opens"])] == pytest.approx(max(best.values()), abs=1e-3)


def test_the_page_counts_the_heads_that_rest_on_the_frame(findings, outputs):
    for shown, output in zip(findings["texts"], outputs, strict=True):
        given = [weights[0, :, 1:-1][:, :, [0, -1]].sum(axis=-1).mean(axis=-1) for weights in output.attentions]
        assert shown["resting"] == np.sum(np.array(given) > 0.5)
        assert shown["resting"] > 0  # the habit that the page explains is there


def test_words_that_make_texts_alike_are_neither_the_frame_nor_the_commonest(tiny):
    texts = ["The cat sat on the mat.", "The dog lay in the grass."]
    found = view.examine(tiny, texts)
    labels = [[token["label"].strip() for token in text["tokens"]] for text in found["texts"]]
    named = [(labels[0][i], labels[1][j]) for i, j, _ in found["pairs"]["0-1"]["alike"]]
    assert named[:3] == [("cat", "dog"), ("sat", "lay"), ("on", "in")]
    assert all(excess > 0 for *_, excess in found["pairs"]["0-1"]["alike"])


def test_the_title_counts_the_other_texts():
    for count, title in [(1, "a · numroberta"), (2, "a and 1 more · numroberta"), (4, "a and 3 more · numroberta")]:
        assert f"<title>{title}</title>" in view.render({"texts": [{"text": "a"}] * count})


def test_32_tokens_of_distilrobertas_geometry_are_less_than_1_5_mb(tmp_path):
    # The page's size depends on layers, heads and tokens; the width of a hidden state is not in it.
    sizes = {"num_hidden_layers": 6, "num_attention_heads": 12}
    model = numroberta.load(random_model.write(tmp_path, "masked language model", **sizes))
    found = view.examine(model, ["x" * 30, "y" * 30])
    assert [len(text["tokens"]) for text in found["texts"]] == [32, 32]
    assert len(view.render(found).encode()) < 1_500_000  # 0.54 MB: both texts, 73,728 weights each


# --- texts nobody expected, and what cannot be drawn -------------------------------------------------------------


class Elements(HTMLParser):
    """The page as a parser sees it: (element, attributes) in order, and the text of each script."""

    def __init__(self, page):
        super().__init__()
        self.found, self.scripts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts[-1] += data


def naughty_strings(shared=None):
    return NAUGHTY + (json.loads((shared / "naughty/blns.json").read_text("utf-8")) if shared else [])


def assert_harmless(page, texts):
    plain = Elements(view.render({"texts": [{"text": ""}]}))
    seen = Elements(page)
    assert seen.found == plain.found  # no text has added, ended or changed an element
    assert [text["text"] for text in json.loads(seen.scripts[0])["texts"]] == texts
    assert seen.scripts[1:] == plain.scripts[1:]


def test_no_text_leaves_its_place_in_the_page(tiny):
    for text in NAUGHTY:
        assert_harmless(view.render(view.examine(tiny, [text])), [text])


def test_no_naughty_string_leaves_its_place_in_the_page(shared):
    texts = naughty_strings(shared)  # all of the Big List of Naughty Strings
    assert_harmless(view.render({"texts": [{"text": text} for text in texts]}), texts)


@given(st.text())
def test_no_text_at_all_leaves_its_place_in_the_page(text):
    assert_harmless(view.render({"texts": [{"text": text}]}), [text])


def test_a_key_and_the_width_of_a_head_are_two_letters_and_no_percent_sign_begins_a_line():
    page = (ROOT / "numroberta" / "view" / "page.html").read_text("utf-8")
    assert "√d<sub>k</sub>" in page
    assert not re.search(r"√k|<i>k</i> = ", page)
    assert not re.search(r"\d[ \n]+%", page)


def test_the_page_names_no_address_and_allows_only_its_own_script_and_style(findings):
    page = view.render(findings)
    assert set(re.findall(r"https?://[^\s\"')]+", page)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    policy = next(attrs["content"] for _, attrs in Elements(page).found if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert not re.search(r"\b(on\w+|style)=\"", page)  # the policy would forbid them


def test_a_checkpoint_without_a_masked_lm_head_is_drawn_without_predictions(small):
    found = view.examine(small, ["and the rain", ""])
    assert [text["written"] for text in found["texts"]] == [None, None]
    assert len(found["texts"][1]["tokens"]) == 2


def test_a_long_text_is_cut_and_the_page_knows_how_much(tmp_path):
    for positions, kept in [(66, 64), (514, MOST_TOKENS)]:
        model = numroberta.load(random_model.write(tmp_path / str(kept), max_position_embeddings=positions))
        found = view.examine(model, ["x" * 300])["texts"][0]
        assert (len(found["tokens"]), found["cut"]) == (kept, 302 - kept)


def test_too_many_texts_or_none_are_refused_in_one_sentence(tiny):
    for count in (0, 13):
        with pytest.raises(ValueError, match=f"{count} texts, expected 1 to 12"):
            view.examine(tiny, ["text"] * count)


def test_the_command_writes_the_page_and_says_where(tmp_path, capsys):
    target = tmp_path / "page.html"
    assert main(["view", *TEXTS[:2], "-o", str(target)]) == 0
    assert f"written to {target}" in capsys.readouterr().out
    assert [text["text"] for text in json.loads(Elements(target.read_text("utf-8")).scripts[0])["texts"]] == TEXTS[:2]


def test_the_command_refuses_a_folder_that_is_not_there_before_it_computes(tmp_path, capsys):
    assert main(["view", "text", "--model", "no such model", "-o", str(tmp_path / "missing" / "page.html")]) == 2
    assert "missing is not a folder" in capsys.readouterr().err


def test_the_command_opens_the_page_if_asked(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert main(["view", "text", "-o", str(tmp_path / "a page.html"), "--open"]) == 0
    assert opened == [(tmp_path / "a page.html").as_uri()]


# --- in a browser ------------------------------------------------------------------------------------------------

SWITCHES = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="module")
def chromium():
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install '.[view]')")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("needs chromium (apt-get install chromium)")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=SWITCHES.split())
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, tmp_path):
    """Open findings in the browser; in the end nothing was complained of, and nothing asked for but the file."""
    complaints, requests, pages = [], [], []

    def opened(findings, **settings):
        file = tmp_path / f"{len(pages)}.html"
        file.write_text(view.render(findings), "utf-8")
        # Without motion, a colour read after a click is the one that stays, not one that fades by.
        still = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"}
        page = chromium.new_page(**{**still, **settings})
        page.set_default_timeout(120_000)  # milliseconds: a busy machine may be slow
        pages.append(page)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(file.as_uri())
        return page

    yield opened
    for page in pages:
        page.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert len(requests) == len(pages)


def percents(weights):
    return [f"{100 * weight:.1f}" for weight in weights]


def attentions(tiny, text):
    """(layers, heads, n, n) of a text, computed beside the others as the page has it: rounding is then the same."""
    rows = [np.array(tiny.tokenizer(other).ids) for other in TEXTS]
    outputs = tiny.model.run(
        [(row, tiny.model.position_ids(row)) for row in rows],
        lambda output: [layer.astype(np.float64) for layer in output.attentions],
        output_attentions=True,
    )
    return np.stack(outputs[text])


def test_a_click_on_a_head_and_a_mouse_over_a_token_show_numpys_numbers(open_page, findings, tiny):
    page, heads = open_page(findings), attentions(tiny, 0)
    grid = page.locator("#heads button")
    assert grid.count() == 6 * 13
    for layer, head in [(0, 2), (5, 11), (2, 7)]:
        grid.nth(layer * 13 + head).click()
        assert page.locator("#which").inner_text() == f"Layer {layer}, head {head}"
        for token in (1, 4):
            page.locator("#looks button").nth(token).hover()
            assert page.locator("#looks small").all_inner_texts() == percents(heads[layer, head, token])
    grid.nth(3 * 13 + 12).click()
    page.locator("#looks button").nth(2).click()
    page.mouse.move(0, 0)
    assert page.locator("#looks small").all_inner_texts() == percents(heads[3].mean(axis=0)[2])
    assert "looks at" in page.locator("#said").inner_text()


def test_the_big_map_tells_the_weight_under_the_mouse(open_page, findings, tiny):
    page, heads = open_page(findings), attentions(tiny, 0)
    page.locator("#heads button").nth(1 * 13 + 4).click()
    canvas = page.locator("#map canvas")
    box, n = canvas.bounding_box(), heads.shape[-1]
    for query, key in [(0, 0), (3, 2), (n - 1, n - 2)]:
        canvas.hover(position={"x": (key + 0.5) * box["width"] / n, "y": (query + 0.5) * box["height"] / n})
        said = page.locator("#said").inner_text().replace("\u00a0", " ")
        assert f"{100 * heads[1, 4, query, key]:.1f} %" in said


def test_every_pixel_of_a_map_has_the_colour_of_its_weight(open_page, findings, tiny):
    page = open_page(findings)
    pixels = page.evaluate(
        """() => [...document.querySelectorAll('#heads canvas')].map(canvas =>
               [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data])"""
    )
    n = len(findings["texts"][0]["tokens"])
    red = np.array(pixels).reshape(6, 13, n, n, 4)[..., 0]
    weights = maps(findings, 0)
    # Darker means more, everywhere and in all heads alike: red falls from 243 to 10 along the ramp.
    order = np.argsort(weights.ravel(), kind="stable")
    assert (np.diff(red.ravel()[order].astype(int)) <= 0).all()
    assert red.ravel()[weights.ravel() == 0].tolist() == [243] * int((weights == 0).sum())


def test_a_tab_switches_the_text_and_all_that_is_drawn(open_page, findings, tiny):
    page = open_page(findings)
    for text in (1, 2, 0):
        page.get_by_role("tab").nth(text).click()
        assert page.locator("h1").inner_text() == TEXTS[text]
        shown = findings["texts"][text]
        assert page.locator("#tokens .id").all_inner_texts() == [str(token["id"]) for token in shown["tokens"]]
        page.locator("#heads button").nth(0).click()
        page.locator("#looks button").nth(1).hover()
        assert page.locator("#looks small").all_inner_texts() == percents(attentions(tiny, text)[0, 0, 1])
        cards = [entry for entry in shown["written"] if entry]
        numbers = page.locator("#cards ol .num").all_inner_texts()
        assert numbers == [f"{100 * p:.1f}\u00a0%" for card in cards for _, p in card["top"]]
        chart = page.locator("#norms text.on").all_text_contents()
        assert chart == [f"{norms[1]:.2f}" for norms in shown["norms"]]


def test_the_keyboard_reaches_heads_tokens_and_texts(open_page, findings):
    page = open_page(findings)
    page.locator("#heads button").nth(0).focus()
    page.keyboard.press("Home")
    for key, name in [
        ("ArrowRight", "Layer 0, head 1"),
        ("ArrowDown", "Layer 1, head 1"),
        ("End", "Layer 1, mean of its heads"),
        ("ArrowRight", "Layer 1, mean of its heads"),
        ("ArrowUp", "Layer 0, mean of its heads"),
        ("Home", "Layer 0, head 0"),
        ("ArrowUp", "Layer 0, head 0"),
    ]:
        page.keyboard.press(key)
        assert page.locator("#which").inner_text() == name
    page.keyboard.press("Tab")  # one stop for all heads, then one for all tokens
    assert page.evaluate("document.activeElement.parentElement.id") == "looks"
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert page.locator("#looks button[aria-pressed=true]").get_attribute("aria-label").startswith("The, ")
    page.get_by_role("tab").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("h1").inner_text() == TEXTS[1]
    assert page.evaluate("document.activeElement.getAttribute('aria-selected')") == "true"


def test_one_text_has_no_tabs_and_is_not_compared(open_page, tiny):
    page = open_page(view.examine(tiny, TEXTS[:1]))
    assert page.locator("#tabs").is_hidden()
    assert page.locator("#similar").is_hidden()
    assert page.locator("#facts").inner_text() == "9 tokens · 6 layers × 12 heads · 192 dimensions"


def test_the_page_explains_what_it_opens_on(open_page, findings):
    page = open_page(findings)
    layer, head = findings["texts"][0]["opens"]
    assert page.locator("#which").inner_text() == f"Layer {layer}, head {head}"
    resting = findings["texts"][0]["resting"]
    assert page.locator("#resting").inner_text().startswith(f"In this text {resting} of 72 heads give <s> and </s>")
    assert page.locator("#width").inner_text() == "16"  # 192 dimensions, 12 heads
    assert page.locator("#root").inner_text() == "13.86"
    assert page.locator("#tokens small").first.inner_text() == "no bytes"


def test_a_pair_of_texts_shows_what_each_token_adds(open_page, findings):
    page = open_page(findings)
    cells = page.locator("#matrix tbody .num").all_inner_texts()
    assert cells == [f"{value:.3f}" for row in findings["similarity"] for value in row]
    page.get_by_role("button", name="texts 2 and 3, cosine").click()
    pair = findings["pairs"]["1-2"]
    signed = [f"{value:+.3f}".replace("-", "−") for value in pair["left"]]
    assert page.locator("#pair .strip").first.locator("small").all_inner_texts() == signed
    page.locator("#pair .strip").first.locator("button").nth(2).hover()
    signed = [f"{value:+.4f}".replace("-", "−") for value in pair["pairs"][2]]
    assert page.locator("#pair .strip").nth(1).locator("small").all_inner_texts() == signed


def test_naughty_texts_are_shown_as_they_are_and_run_nothing(open_page, tiny):
    texts = NAUGHTY[:8]
    page = open_page(view.examine(tiny, texts))
    for number, text in enumerate(texts):
        page.get_by_role("tab").nth(number).click()
        assert page.locator("h1").evaluate("node => node.textContent") == text
    assert page.title() != "hit"
    assert page.locator("h1 *").count() == 0


@pytest.mark.parametrize("width", [320, 390, 768])
def test_nothing_is_wider_than_a_phone(open_page, findings, width):
    page = open_page(findings, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_on_every_shade_can_be_read(open_page, findings, scheme):
    page = open_page(findings, color_scheme=scheme)
    page.locator("#heads button").nth(2).click()
    pairs = page.evaluate(
        """() => [...document.querySelectorAll('#looks button, .matrix .num, #pair button, h1, .caption, .brand')]
             .map(node => { let under = node;
               while (getComputedStyle(under).backgroundColor === 'rgba(0, 0, 0, 0)') under = under.parentElement;
               return [getComputedStyle(node).color, getComputedStyle(under).backgroundColor]; })"""
    )

    def luminance(colour):
        channels = np.array([float(value) for value in re.findall(r"[\d.]+", colour)][:3]) / 255
        return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4) @ [
            0.2126,
            0.7152,
            0.0722,
        ]

    for ink, paper in pairs:
        light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, paper)  # WCAG 2.2, contrast (minimum)


def test_print_has_papers_colours_even_from_a_dark_screen(open_page, findings):
    page = open_page(findings, color_scheme="dark")
    corner = "document.querySelector('#map canvas').getContext('2d').getImageData(0, 0, 1, 1).data[0]"
    page.locator("#heads button").nth(2).click()
    dark = page.evaluate(corner)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--ink')").strip() == "#1b2330"
    assert page.evaluate(corner) != dark
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(corner) == dark


def test_a_checkpoint_without_a_head_says_that_it_cannot_write(open_page, small):
    page = open_page(view.examine(small, ["and the rain", ""]))
    assert "no masked-LM head" in page.locator("#c-written").inner_text()
    assert page.locator("#cards li").count() == 0
    assert page.locator("#tabs").is_visible()
    page.get_by_role("tab").nth(1).click()
    assert page.locator("#looks button").count() == 2
