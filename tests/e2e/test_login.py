"""Logins from a real browser (Chromium) at a real OpenID provider, over two edges; and how fast access ends at both."""
import json
import re
import shutil
import threading
import time
import uuid

import pytest
import requests

from conftest import STATE, wait_for

SESSION, CSRF = "__Host-cordon-session", "__Host-cordon-csrf"
TICKET_S = 1.05         # AUTH_CACHE_MS of services/edge/auth_cache.h, and what clocks round
ME = "/api/v1/auth/me"


def sql(stack, text, *values):
    with stack.database() as connection, connection.cursor() as cursor:
        cursor.execute(text, values)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def edges(stack):
    """Two edges, and the provider's word good for 40 s only, so that it is asked again."""
    again = {**stack.env, "IDP_ACCESS_TOKEN_S": "40"}
    stack.env, before = again, stack.env
    try:
        stack.cordon("up", "--bare", "--replicas", "edge=2")
        for name in ("idp", "auth"):
            stack.cordon("restart", name)
        second = f"http://127.0.0.1:{stack.info['port_base'] + 29 + 20}"
        for url in (stack.url, second):
            wait_for("both edges", lambda: requests.get(url + "/api/v1/health/ready", timeout=5).status_code == 200, 30)
        yield [stack.url, second]
    finally:
        stack.env = before
        stack.cordon("up", "--bare", "--replicas", "edge=1")
        stack.cordon("restart", "idp")
        provider = f"http://127.0.0.1:{stack.info['port_base'] + 4}/.well-known/openid-configuration"
        wait_for("the provider, for the next", lambda: requests.get(provider, timeout=5).status_code == 200, 60, 0.2)


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="python3-selenium is not installed")
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        pytest.skip("chromium or chromium-driver is not installed")
    from selenium.webdriver.chrome.service import Service
    options = webdriver.ChromeOptions()
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-extensions"):
        options.add_argument(word)
    driver = webdriver.Chrome(service=Service(shutil.which("chromedriver")), options=options)
    driver.set_page_load_timeout(30)
    driver.set_script_timeout(30)
    yield driver
    driver.quit()


def forget(browser, stack):
    """Nobody is logged in anywhere: cookies of a host are those of all its ports, the provider's with ours."""
    browser.get(stack.url + "/api/v1/health")
    browser.delete_all_cookies()


def go_to_login(browser, stack, path="/api/v1/auth/login?return_to=/docs"):
    browser.get(stack.url + path)


def answer_provider(browser, user):
    """The provider's own pages: a name and a password, then consent."""
    from selenium.webdriver.common.by import By
    wait_for("the provider's form", lambda: browser.find_elements(By.NAME, "login"), 20)
    browser.find_element(By.NAME, "login").send_keys(user)
    browser.find_element(By.NAME, "password").send_keys("anything")
    browser.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
    wait_for("consent", lambda: not browser.find_elements(By.NAME, "password"), 20)
    if "/interaction/" in browser.current_url:
        browser.find_element(By.CSS_SELECTOR, "button[type=submit]").click()


def log_in(browser, stack, user="maya"):
    forget(browser, stack)
    go_to_login(browser, stack)
    answer_provider(browser, user)
    wait_for("the way back", lambda: browser.current_url == stack.url + "/docs", 20)
    return {cookie["name"]: cookie for cookie in browser.get_cookies()}


def fetch(browser, path, method="GET", headers=None, body=None):
    """A page's own fetch(): (status, JSON or None)."""
    status, text = browser.execute_async_script("""
        const [path, method, headers, body, done] = arguments;
        fetch(path, {method, headers, body}).then(async r => done([r.status, await r.text()]), e => done([0, String(e)]));
    """, path, method, headers or {}, body)
    return status, json.loads(text) if text.startswith("{") else None


def as_browser(url, path, cookies, method="GET", **more):
    """The same cookies by hand, at any edge."""
    jar = "; ".join(f"{name}={cookies[name]['value']}" for name in (SESSION, CSRF))
    headers = {"Cookie": jar, **more.pop("headers", {})}
    return requests.request(method, url + path, headers=headers, timeout=30, **more)


def code_of(answer):
    return answer.status_code, answer.json().get("code")


def let_in_for(ask, since=None, limit=10):
    """Seconds from since (now), until the last ask() that was let in was sent: how long its answer took is no matter of access."""
    last = since = since or time.time()
    while (sent := time.time()) - since < limit:
        answer = ask()
        if answer.status_code in (401, 403):
            return last - since
        last = sent if answer.ok else last
    raise AssertionError("still let in")


def test_a_browser_logs_in_reads_changes_and_logs_out(stack, edges, browser):
    cookies = log_in(browser, stack)
    session, csrf = cookies[SESSION], cookies[CSRF]
    assert session["httpOnly"] and session["secure"] and session["sameSite"] == "Strict" and session["path"] == "/"
    assert csrf["secure"] and not csrf["httpOnly"] and re.fullmatch("[0-9a-f]{64}", session["value"])
    assert "__Host-cordon-login" not in cookies
    assert browser.execute_script("return document.cookie") == f"{CSRF}={csrf['value']}", "the session's secret is not for scripts"
    status, me = fetch(browser, ME)
    assert status == 200 and (me["name"], me["tenant"], me["session"]["is_browser"]) == ("Maya Okafor", "demo", True)
    assert fetch(browser, "/api/v1/documents")[0] == 200
    status, refused = fetch(browser, "/api/v1/search", "POST", {"Content-Type": "application/json"}, '{"question": "x"}')
    assert (status, refused["code"]) == (403, "AUTH_010")
    with_csrf = {"Content-Type": "application/json", "X-CSRF-Token": csrf["value"]}
    assert fetch(browser, "/api/v1/search", "POST", with_csrf, '{"question": "x"}')[0] == 200
    for wrong in ("0" * 64, csrf["value"][:-1], session["value"]):
        assert fetch(browser, "/api/v1/search", "POST", {**with_csrf, "X-CSRF-Token": wrong}, '{"question": "x"}')[0] == 403
    status, out = fetch(browser, "/api/v1/auth/logout", "POST", {"X-CSRF-Token": csrf["value"]})
    assert status == 200 and out["logout_url"].startswith(stack.info["issuer"])
    assert SESSION not in {c["name"] for c in browser.get_cookies()}
    for url in edges:
        assert let_in_for(lambda: as_browser(url, ME, cookies)) < TICKET_S
    time.sleep(1.1)         # until then an edge may have a ticket, which the database refuses
    for url in edges:
        assert code_of(as_browser(url, ME, cookies)) == (401, "AUTH_009")
    browser.get(out["logout_url"])          # the provider asks whether to end its session as well
    from selenium.webdriver.common.by import By
    for button in browser.find_elements(By.CSS_SELECTOR, "button[type=submit]")[:1]:
        button.click()
    wait_for("back home", lambda: browser.current_url == stack.url + "/", 20)
    go_to_login(browser, stack)
    wait_for("the provider asks again", lambda: browser.find_elements(By.NAME, "password"), 20)
    reasons = sql(stack, "SELECT revoked_reason FROM auth.sessions s JOIN auth.logins l ON l.session_id = s.id ORDER BY s.revoked_at DESC LIMIT 1")
    assert reasons == [("logout",)]


def test_a_cookie_is_good_for_nothing_else(stack, edges, browser):
    cookies = log_in(browser, stack)
    secret = cookies[SESSION]["value"]
    assert as_browser(edges[1], ME, cookies).status_code == 200, "at every edge"
    assert stack.call("GET", ME, token=secret).status_code == 401, "not as a token, also while a ticket of it is kept"
    twice = {"Cookie": f"{SESSION}={secret}; {SESSION}={secret}"}
    assert requests.get(stack.url + ME, headers=twice, timeout=10).status_code == 401
    assert requests.get(stack.url + ME, headers={"Cookie": f"{SESSION}={secret}", "Authorization": "Bearer x"}, timeout=10).status_code == 401
    assert as_browser(stack.url, "/api/v1/auth/logout", cookies, "POST").status_code == 403
    assert as_browser(stack.url, ME, cookies).status_code == 200


def test_callbacks_that_nobody_here_began_are_refused_and_on_record(stack, edges, browser):
    began = requests.get(stack.url + "/api/v1/auth/login", allow_redirects=False, timeout=10)
    assert began.status_code == 303 and began.headers["Location"].startswith(stack.info["issuer"])
    assert "HttpOnly" in began.headers["Set-Cookie"] and "SameSite=Lax" in began.headers["Set-Cookie"]
    state = re.search("state=([0-9a-f]{64})", began.headers["Location"])[1]
    callback = f"{stack.url}/api/v1/auth/callback?code=x&state={state}&iss={stack.info['issuer']}&session_state=whatever"
    answer = requests.get(callback, timeout=10, allow_redirects=False)
    assert code_of(answer) == (400, "AUTH_011") and "__Host-cordon-login=;" in answer.headers["Set-Cookie"]
    for bad in ("https://evil.example/", "//evil.example", "/\\evil.example"):
        assert requests.get(stack.url + "/api/v1/auth/login", params={"return_to": bad}, timeout=10, allow_redirects=False).status_code == 400
    assert code_of(requests.get(stack.url + "/api/v1/auth/login?issuer=https://evil.example", timeout=10)) == (404, "AUTH_012")
    wait_for("the refusal on record", lambda: sql(stack, "SELECT 1 FROM audit.audit_logs WHERE action = 'auth.denied' AND convert_from(event, 'UTF8')::json->'detail'->>'reason' = 'state'"), 10)


def walk_to_callback(stack, user):
    """The way to the provider and back without a browser; stops before the last step. (callback's URL, login's secret)"""
    began = requests.get(stack.url + "/api/v1/auth/login?return_to=/docs", allow_redirects=False, timeout=10)
    secret = re.search("__Host-cordon-login=([0-9a-f]{64})", began.headers["Set-Cookie"])[1]
    provider, url, fields = requests.Session(), began.headers["Location"], None
    for _ in range(20):
        answer = provider.post(url, data=fields, allow_redirects=False, timeout=10) if fields else provider.get(url, allow_redirects=False, timeout=10)
        fields = None
        if answer.is_redirect:
            url = requests.compat.urljoin(url, answer.headers["Location"])
        else:
            url, fields = re.search('action="([^"]+)"', answer.text)[1], {"prompt": re.search('name="prompt" value="([a-z]+)"', answer.text)[1], "login": user, "password": "x"}
        if url.startswith(stack.url):
            return url, secret
    raise AssertionError("the provider never let go")


def test_a_callback_is_used_once(stack, edges):
    """By the browser that began it; and not again by one who has seen all of it."""
    callback, secret = walk_to_callback(stack, "maya")

    def come_back(secret, url=callback):
        return requests.get(url, headers={"Cookie": f"__Host-cordon-login={secret}"}, timeout=10, allow_redirects=False)
    assert code_of(come_back("0" * 64)) == (400, "AUTH_011")
    other, _ = walk_to_callback(stack, "rafael")
    first = come_back(secret)
    assert first.status_code == 303 and first.headers["Location"] == "/docs", first.text
    assert code_of(come_back(secret)) == (400, "AUTH_011")
    callback, secret = walk_to_callback(stack, "maya")
    injected = re.sub("code=[^&]+", re.search("code=[^&]+", other)[0], callback)
    assert code_of(come_back(secret, injected)) == (400, "AUTH_011"), "another's code fits no verifier of mine"
    callback, secret = walk_to_callback(stack, "maya")
    assert code_of(come_back(secret, re.sub("iss=[^&]+", "iss=https%3A%2F%2Fevil.example", callback))) == (400, "AUTH_011")


def test_the_provider_is_asked_again_while_the_browser_works(stack, edges, browser):
    cookies = log_in(browser, stack)
    until = lambda: sql(stack, "SELECT max(access_until) FROM auth.logins")[0][0]       # noqa: E731
    first = until()
    sql(stack, "UPDATE auth.logins SET access_until = now() + interval '5 s' WHERE access_until = %s", first)
    before = sql(stack, "SELECT refresh_enc FROM auth.logins ORDER BY seen_at DESC LIMIT 1")[0][0].tobytes()
    time.sleep(1.1)         # the edge's ticket
    assert fetch(browser, ME)[0] == 200
    assert until() >= first
    assert sql(stack, "SELECT refresh_enc FROM auth.logins ORDER BY seen_at DESC LIMIT 1")[0][0].tobytes() != before, "another refresh token"
    assert as_browser(edges[1], ME, cookies).status_code == 200


def test_sessions_are_listed_and_ended_by_their_user(stack, edges, browser):
    first = log_in(browser, stack)
    second = log_in(browser, stack)
    listed = as_browser(stack.url, "/api/v1/auth/sessions", second).json()["sessions"]
    assert sum(s["is_current"] for s in listed) == 1 and len([s for s in listed if s["is_browser"]]) >= 2
    user = as_browser(stack.url, ME, second).json()["user_id"]
    for path, ask in (("/api/v1/auth/sessions", lambda path: as_browser(stack.url, path, second)),
                      (f"/api/v1/users/{user}/sessions", lambda path: stack.call("GET", path, role="admin"))):
        walked, cursor = [], ""
        while cursor is not None:
            page = ask(f"{path}?limit=1&cursor={cursor}").json()
            walked += [s["id"] for s in page["sessions"]]
            cursor = page.get("next_cursor") or None
            assert len(page["sessions"]) == 1
        assert walked == [s["id"] for s in listed], "a page at a time, newest first"
    other = as_browser(stack.url, ME, first).json()["session"]["id"]
    csrf = {"X-CSRF-Token": second[CSRF]["value"]}
    assert as_browser(stack.url, f"/api/v1/auth/sessions/{other}", second, "DELETE", headers=csrf).status_code == 204
    assert let_in_for(lambda: as_browser(edges[1], ME, first)) < TICKET_S
    assert as_browser(edges[1], ME, second).status_code == 200
    assert as_browser(stack.url, f"/api/v1/auth/sessions/{uuid.uuid4()}", second, "DELETE", headers=csrf).status_code == 404


def test_idle_and_absolute_logoff(stack, edges, browser):
    """Times are moved rather than waited for; the sweep ends sessions although nobody comes back."""
    cookies = log_in(browser, stack)
    mine = as_browser(stack.url, ME, cookies).json()["session"]["id"]
    idle_for = "UPDATE auth.logins SET seen_at = now() - interval '%s s' WHERE session_id = %s"
    sql(stack, idle_for, 800, mine)
    assert as_browser(stack.url, "/api/v1/auth/validate", cookies).status_code == 200
    assert sql(stack, "SELECT seen_at < now() - interval '790 s' FROM auth.logins WHERE session_id = %s", mine) == [(True,)], "asking is no activity"
    sql(stack, idle_for, 899, mine)
    wait_for("idle logoff", lambda: fetch(browser, "/api/v1/auth/validate")[0] == 401, 10, 0.3)
    assert SESSION not in {c["name"] for c in browser.get_cookies()}, "and the browser forgets it"
    old = as_browser(stack.url, ME, log_in(browser, stack)).json()["session"]["id"]
    sql(stack, "UPDATE auth.sessions SET expires_at = now() WHERE id = %s", old)
    wait_for("absolute logoff by the sweep", lambda: sql(stack, "SELECT 1 FROM auth.sessions WHERE id = %s AND revoked_reason = 'absolute'", old), 25)
    assert sql(stack, "SELECT revoked_reason FROM auth.sessions WHERE id = %s", mine) == [("idle",)]
    for session, reason in ((mine, "idle"), (old, "absolute")):
        wait_for(f"{reason} on record", lambda: sql(
            stack, "SELECT 1 FROM audit.audit_logs WHERE action = 'auth.session.revoke' AND convert_from(event, 'UTF8')::json->'detail'->>'reason' = %s "
            "AND convert_from(event, 'UTF8') LIKE %s", reason, f"%{session}%"), 10)


class Slow(threading.Thread):
    """A download read drop by drop, or an upload written so, until it ends or breaks."""

    def __init__(self, url, path, headers, upload=False):
        super().__init__(daemon=True)
        self.url, self.path, self.headers, self.upload = url, path, headers, upload
        self.began, self.hurry = threading.Event(), threading.Event()
        self.ended_at = None
        self.bytes = 0
        self.start()

    def drops(self):
        for _ in range(600):
            self.began.set()
            yield b"The gait was steady. " * 1000
            time.sleep(0.05)

    def run(self):
        try:
            if self.upload:
                answer = requests.post(self.url + self.path, headers={**self.headers, "Content-Type": "text/plain"}, data=self.drops(), timeout=60)
                self.bytes = answer.status_code
            else:
                with requests.get(self.url + self.path, headers=self.headers, stream=True, timeout=60) as answer:
                    for piece in answer.iter_content(16384):
                        self.bytes += len(piece)
                        self.began.set()
                        self.hurry.wait(0 if self.hurry.is_set() else 0.05)
        except (requests.RequestException, OSError):
            pass
        self.ended_at = time.monotonic()


@pytest.fixture(scope="module")
def large(stack):
    made = stack.upload(b"The gait was steady and the patient went home. " * 400000)       # 19 MB: more than socket buffers hold
    assert made.status_code == 202, made.text
    return made.json()["document_id"]


def admin(stack, method, path, **more):
    answer = stack.call(method, path, role="admin", **more)
    assert answer.status_code in (200, 204), answer.text


def cuts(stack):
    """Requests that both edges have cut so far."""
    processes = json.loads((STATE / "stack.json").read_text())["processes"]
    pages = [requests.get(processes[name]["metrics"] + "/metrics", timeout=5).text for name in ("edge", "edge.2")]
    return sum(int(float(re.search(r"^cordon_edge_requests_cut_total(?:{})? (\S+)", page, re.M)[1])) for page in pages)


WAYS = ["session", "user", "tenant", "key"]


@pytest.mark.parametrize("way", WAYS)
def test_access_ends_everywhere_within_a_second_and_what_is_under_way_is_cut(stack, edges, large, pulse, way):
    """The next request at each of two edges is refused, a download and an upload under way at each are cut."""
    name = f"leaver-{way}"
    tenant = "demo"
    if way == "key":
        made = stack.call("POST", "/api/v1/api-keys", role="admin", json={"name": name, "scopes": ["documents:read", "documents:write"]}).json()
        token = made["key"]
    else:
        token = stack.token("demo", "clinician", name)
    headers = {"Authorization": f"Bearer {token}"}
    ask = lambda url: requests.get(url + "/api/v1/documents?limit=1", headers=headers, timeout=10)      # noqa: E731
    for url in edges:
        assert ask(url).status_code == 200
    slow = [Slow(url, f"/api/v1/documents/{large}/content", headers) for url in edges] + [Slow(url, "/api/v1/documents", headers, upload=True) for url in edges]
    for one in slow:
        assert one.began.wait(20)
    time.sleep(1)
    assert all(one.ended_at is None for one in slow)
    before = cuts(stack)
    user = sql(stack, "SELECT u.id::text FROM auth.users u WHERE u.subject = %s", token.split("_")[1] if way == "key" else name)[0][0]
    platform = {"tenant": None, "role": "platform_admin"}
    tenant_id = sql(stack, "SELECT id::text FROM auth.tenants WHERE slug = %s", tenant)[0][0]
    try:
        if way == "session":
            admin(stack, "DELETE", f"/api/v1/users/{user}/sessions")
        elif way == "user":
            admin(stack, "PATCH", f"/api/v1/users/{user}", json={"status": "disabled"})
        elif way == "key":
            admin(stack, "DELETE", f"/api/v1/api-keys/{made['key_id']}")
        else:
            assert stack.call("PATCH", f"/api/v1/tenants/{tenant_id}", json={"status": "suspended"}, **platform).status_code == 200
        ended = time.time()
        wait_for("all four cut", lambda: cuts(stack) >= before + 4, 10, 0.02)
        cut = time.time() - ended
        stalled = pulse.stalled(ended, ended + cut)
        let_in = [let_in_for(lambda url=url: ask(url), ended) for url in edges]
        for one in slow:
            one.hurry.set()         # what was on its way already comes still
        wait_for("their ends", lambda: all(one.ended_at for one in slow), 10, 0.02)
    finally:
        if way == "tenant":
            assert stack.call("PATCH", f"/api/v1/tenants/{tenant_id}", json={"status": "active"}, **platform).status_code == 200
            time.sleep(1.1)
    print(f"{way}: let in for {[round(s, 2) for s in let_in]} s, the last of four cut after {cut:.2f} s, of which the machine stood still for {stalled:.2f} s")
    assert max(let_in) < TICKET_S and cut - stalled < 1.5
    assert all(one.bytes < 19000000 for one in slow[:2]) and slow[2].bytes != 202 and slow[3].bytes != 202
