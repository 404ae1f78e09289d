#include <openssl/evp.h>
#include <stdlib.h>

#include "answer.h"
#include "core/text_codec.h"
#include "exchange.h"
#include "openapi.h"

static const char STYLE[] =
    "body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1rem 1.5rem;color:#1b2733}"
    "h1{margin-bottom:0}h2{border-bottom:1px solid #d5dde5;margin-top:2.5rem;text-transform:capitalize}"
    "details{border:1px solid #d5dde5;border-radius:6px;margin:.5rem 0;padding:.5rem .8rem}summary{cursor:pointer}"
    "b.verb{display:inline-block;width:4.5rem;font-family:monospace}code{background:#f1f4f7;padding:0 .25rem;border-radius:3px}"
    "table{border-collapse:collapse;width:100%;font-size:.92rem}td,th{text-align:left;vertical-align:top;padding:.2rem .6rem .2rem 0}"
    "pre{background:#f1f4f7;padding:.6rem;overflow:auto;font-size:.85rem}.quiet{color:#5b6b7a}";

/* Only textContent is ever set, so nothing in the document can become markup. */
static const char SCRIPT[] =
    "const el=(tag,text,...kids)=>{const e=document.createElement(tag);if(text)e.textContent=text;e.append(...kids);return e};"
    "const type=s=>!s?'':s.$ref?s.$ref.split('/').pop():s.type==='array'?type(s.items)+'[]':"
    "s.enum?s.enum.join(' | '):(s.format||s.type||'')+(s.maxLength?' up to '+s.maxLength+' bytes':'')+"
    "(s.maximum!==undefined&&s.minimum!==undefined?' '+s.minimum+' to '+s.maximum:'');"
    "const table=(rows)=>{const t=el('table');for(const r of rows){const tr=el('tr');r.forEach((c,i)=>tr.append(i?el('td',c):el('td','',el('code',c))));t.append(tr)}return t};"
    "const members=(doc,s)=>{if(s.$ref)s=doc.components.schemas[s.$ref.split('/').pop()];"
    "return table(Object.entries(s.properties||{}).map(([n,p])=>[n,type(p),((s.required||[]).includes(n)?'':'optional. ')+(p.description||'')]))};"
    "const body=(doc,content)=>{const out=[];for(const [media,c] of Object.entries(content||{})){out.push(el('p',media));"
    "if(c.schema&&(c.schema.$ref||c.schema.properties))out.push(members(doc,c.schema))}return out};"
    "fetch('/openapi.json').then(r=>r.json()).then(doc=>{const main=document.querySelector('main');main.textContent='';"
    "main.append(el('h1',doc.info.title+' '+doc.info.version),el('p',doc.info.summary));"
    "const raw=el('a','openapi.json');raw.href='/openapi.json';main.append(el('p','',raw));"
    "for(const tag of doc.tags){main.append(el('h2',tag.name),el('p',tag.description));"
    "for(const [path,verbs] of Object.entries(doc.paths))for(const [verb,op] of Object.entries(verbs)){if(op.tags[0]!==tag.name)continue;"
    "const d=el('details'),v=el('b',verb.toUpperCase());v.className='verb';d.append(el('summary','',v,el('code',path),' '+op.summary));"
    "const q=el('p',op.description);q.className='quiet';d.append(q);"
    "if(op.parameters.length)d.append(el('h4','Parameters'),table(op.parameters.map(p=>[p.name,p.in+(p.required?', required':''),type(p.schema)+' '+(p.description||'')])));"
    "if(op.requestBody)d.append(el('h4','Body'),...body(doc,op.requestBody.content));"
    "for(const [code,r] of Object.entries(op.responses))if(code[0]==='2')d.append(el('h4','Answer '+code),...body(doc,r.content));"
    "main.append(d)}}main.append(el('h2','messages'));"
    "for(const [name,s] of Object.entries(doc.components.schemas))main.append(el('h3',name),members(doc,s))});";

static void put_hash(struct buffer *out, const char *text, size_t len) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    uint8_t sum[32];
    if (EVP_Digest(text, len, sum, NULL, EVP_sha256(), NULL) != 1)
        abort();
    (void)buffer_printf(out, "'sha256-%s'", base64_encode(mem, sum, sizeof sum));
}

void docs_page_print(struct buffer *page, struct buffer *policy) {
    (void)buffer_printf(page, "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Cordon API</title>"
                        "<meta name=\"viewport\" content=\"width=device-width\"><style>%s</style></head><body><main>"
                        "This page needs JavaScript to show <a href=\"/openapi.json\">/openapi.json</a>.</main>"
                        "<script>%s</script></body></html>\n", STYLE, SCRIPT);
    (void)buffer_add_str(policy, "default-src 'none'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; style-src ");
    put_hash(policy, STYLE, sizeof STYLE - 1);
    (void)buffer_add_str(policy, "; script-src ");
    put_hash(policy, SCRIPT, sizeof SCRIPT - 1);
}

enum status serve_openapi(struct exchange *x) {
    const struct answer_head head = { .http_status = 200, .content_type = "application/json", .cache = "public, max-age=60" };
    return answer_whole(x, &head, x->edge->openapi.data, x->edge->openapi.len);
}

enum status serve_docs(struct exchange *x) {
    const struct answer_head head = { .http_status = 200, .content_type = "text/html; charset=utf-8",
                                      .policy = x->edge->docs_policy.data, .cache = "public, max-age=60" };
    return answer_whole(x, &head, x->edge->docs_page.data, x->edge->docs_page.len);
}
