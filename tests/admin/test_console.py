"""The console in a real browser: it shows what the node says, acts when told, and survives what a night brings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.admin.conftest import Watched
from tests.support.chromium import Browser, Page, missing_reason
from tests.support.cluster import wait_until
from tests.support.http_client import basic

SHOWN = "document.querySelectorAll('#members tbody tr').length"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    reason = missing_reason()
    if reason:
        pytest.skip(reason)
    with Browser() as started:
        yield started


def console(browser: Browser, cluster: Watched, i: int, **headers: str) -> Page:
    page = browser.page(**headers)
    page.open(f"http://127.0.0.1:{cluster.admin[i]}/")
    page.until(SHOWN)
    return page


def test_it_shows_the_cluster_and_loads_nothing_from_elsewhere(browser: Browser, three: Watched) -> None:
    leader = three.wait_leader()
    page = console(browser, three, leader)
    name = three.nodes[leader].name
    assert page.text("#node") == name
    assert page.text("#state") == "leader"
    assert page.text("#leader").startswith(f"{name} leads since ")
    assert page.run(SHOWN) == 3
    rows = page.run("[...document.querySelectorAll('#members tbody tr')].map(r => [...r.cells].map(c => c.innerText))")
    assert [row[0].split()[0] for row in rows] == [node.name for node in three.nodes]
    assert [row[1].partition("@")[0] for row in rows] == [f"127.0.0.1:{node.port}" for node in three.nodes]
    assert [row[2] for row in rows] == ["leader" if i == leader else "follower" for i in range(3)]
    assert {row[4] for row in rows} == {"up"}
    assert page.run("document.title") == f"{name} leader · zattredis"
    assert page.run("document.querySelector('#alarm').hidden")
    assert page.complaints() == []
    own = f"http://127.0.0.1:{three.admin[leader]}/"
    assert {url for url in page.requested() if not url.startswith((own, "about:", "data:"))} == set()


def test_throughput_latency_and_slow_commands_are_live(browser: Browser, single: Watched) -> None:
    page = console(browser, single, 0)
    with single.client() as client:
        client.call("CONFIG", "SET", "slowlog-log-slower-than", 0)
        client.call("SET", "<img src=x onerror=alert(1)>", b"\x00\xff")
        client.call("CONFIG", "SET", "slowlog-log-slower-than", 1_000_000)

        def busy() -> bool:
            client.pipeline([("SET", f"k{number}", "v") for number in range(50)])
            return bool(page.run("parseFloat(document.querySelector('#ops').textContent) > 10"))

        wait_until(busy, "the page shows throughput")
    page.until("document.querySelector('#write').textContent.includes('ms')"
               " || document.querySelector('#write').textContent.includes('µs')")  # fmt: skip
    page.until("document.querySelector('#ops-line polyline').getAttribute('points').split(' ').length > 2")
    page.until("[...document.querySelectorAll('#commands tbody td:first-child')].some(c => c.textContent === 'set')")
    slow = page.run("[...document.querySelectorAll('#slow td.command')].map(c => c.textContent)")
    assert "SET <img src=x onerror=alert(1)> \\x00\\xff" in slow
    assert page.run("document.querySelectorAll('#slow img').length") == 0
    assert page.complaints() == []


def test_a_transfer_is_asked_for_confirmed_and_done(browser: Browser, three: Watched) -> None:
    leader = three.wait_leader()
    follower = three.followers()[0]
    target = three.nodes[follower].name
    page = console(browser, three, leader)
    assert page.run("[...document.querySelector('#target').options].map(o => o.value)") == [
        "", *(node.name for i, node in enumerate(three.nodes) if i != leader)
    ]  # fmt: skip
    page.run(f"document.querySelector('#target').value = '{target}'")
    page.run("document.querySelector('#transfer button').click()")
    page.until("document.querySelector('#sure').open")
    assert page.text("#question").startswith(f"Hand the leadership to {target}?")
    page.run("document.querySelector('#sure button[value=no]').click()")
    page.until("!document.querySelector('#sure').open")
    assert three.leader() == leader
    page.run("document.querySelector('#transfer button').click()")
    page.until("document.querySelector('#sure').open")
    page.run("document.querySelector('#sure button[value=yes]').click()")
    page.until(f"document.querySelector('#alarm').textContent === '{target} leads now'")
    page.until("document.querySelector('#state').textContent === 'follower, ready'")
    assert three.wait_leader() == follower
    assert page.text("#leader").startswith(f"{target} leads since ")
    assert page.complaints() == []


def test_a_snapshot_is_made_and_what_cannot_be_done_is_said(browser: Browser, single: Watched) -> None:
    page = console(browser, single, 0)
    with single.client() as client:
        before = int(client.info("persistence")["rdb_saves"])
        page.run("document.querySelector('#snapshot button').click()")
        page.until("document.querySelector('#sure').open")
        page.run("document.querySelector('#sure button[value=yes]').click()")
        page.until("document.querySelector('#alarm').textContent === 'The snapshot is made'")
        assert int(client.info("persistence")["rdb_saves"]) == before + 1
    assert page.run("document.querySelector('#transfer button').disabled")  # to whom?
    page.run("token = 'old'; act(document.querySelector('#snapshot'), 'Sure?', 'api/snapshot', {}, () => 'done'); 0")
    page.until("document.querySelector('#sure').open")
    page.run("document.querySelector('#sure button[value=yes]').click()")
    page.until("document.querySelector('#alarm').textContent.startsWith('Not done: ')")


def test_light_and_dark(browser: Browser, single: Watched) -> None:
    page = console(browser, single, 0)

    def paper() -> str:
        return str(page.run("getComputedStyle(document.body).backgroundColor"))

    for scheme, expected in (("dark", "rgb(20, 22, 26)"), ("light", "rgb(251, 251, 249)")):
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        assert paper() == expected
    page.run("document.querySelector('#theme').click()")
    assert paper() == "rgb(20, 22, 26)"
    page.open(f"http://127.0.0.1:{single.admin[0]}/")
    page.until(f"document.readyState === 'complete' && {SHOWN}")
    assert paper() == "rgb(20, 22, 26)", "the choice is remembered"


def test_a_small_screen_needs_no_scrolling_sideways(browser: Browser, single: Watched) -> None:
    page = console(browser, single, 0)
    page.call("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1, mobile=True)
    assert page.run("document.documentElement.scrollWidth") <= 360


def test_without_its_majority_and_without_the_node_the_page_says_so(browser: Browser) -> None:
    with Watched(3, in_memory=True) as cluster:
        cluster.wait_admin_ready(0)
        page = console(browser, cluster, 0)
        cluster.kill(1)
        cluster.kill(2)
        page.until("document.querySelector('#state').textContent === 'not ready'")
        page.until("document.querySelector('#alarm').textContent.includes('no leader is known')")
        assert page.text("#leader").startswith("nobody leads")
        cluster.kill(0)
        page.until("document.querySelector('#alarm').textContent.startsWith('The node does not answer')")
        assert page.run("document.body.classList.contains('stale')")
        for i in range(3):
            cluster.restart(i, wait=False)
        page.until("!document.body.classList.contains('stale') && document.querySelector('#alarm').hidden")
        assert page.run(SHOWN) == 3


def test_with_a_password(browser: Browser) -> None:
    environment = {"ZATTREDIS_REQUIREPASS": "open sesame"}
    with Watched(1, in_memory=True, environment=environment, start=False) as cluster:
        cluster.spawn(cluster.nodes[0])
        wait_until(lambda: '"ready"' in cluster.nodes[0].log(), "ready")
        page = console(browser, cluster, 0, **basic("open sesame"))
        page.run("document.querySelector('#snapshot button').click()")
        page.until("document.querySelector('#sure').open")
        page.run("document.querySelector('#sure button[value=yes]').click()")
        page.until("document.querySelector('#alarm').textContent === 'The snapshot is made'")
        stranger = browser.page()
        stranger.open(f"http://127.0.0.1:{cluster.admin[0]}/api/state")
        stranger.until("document.readyState === 'complete'")
        assert "token" not in stranger.run("document.documentElement.innerText")


def test_a_page_of_another_site_can_neither_read_nor_act(browser: Browser, single: Watched, three: Watched) -> None:
    """The other site is another node's port: another origin, and one without the policy of this one's pages."""
    page = console(browser, three, 0)
    page.call("Page.setBypassCSP", enabled=True)
    page.open(f"http://127.0.0.1:{three.admin[0]}/livez")
    page.until("document.readyState === 'complete' && document.body.innerText.includes('ok')")
    other = f"http://127.0.0.1:{single.admin[0]}"
    with single.client() as client:
        before = client.info("persistence")["rdb_saves"]
        for options in ("{}", "{method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{}'}",
                        "{method: 'POST', mode: 'no-cors', body: '{}'}"):  # fmt: skip
            path = "/api/snapshot" if "POST" in options else "/api/state"
            got = page.run(f"fetch('{other}{path}', {options}).then(a => a.text(), e => 'refused')")
            assert got in ("refused", ""), got
        assert client.info("persistence")["rdb_saves"] == before
