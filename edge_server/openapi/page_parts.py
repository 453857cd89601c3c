"""The style and the script of the page: constants, since the page allows only what has their hashes to run."""

from __future__ import annotations

STYLE = """\
:root{--back:#fff;--card:#f6f7f9;--line:#d5d9e0;--text:#1a1d23;--soft:#5a6270;--mark:#0b62c4;--on:#fff;
--good:#17753c;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--back:#14171c;--card:#1d2128;--line:#363c47;--text:#e7eaef;--soft:#a3abb8;
--mark:#7cb7ff;--on:#0c1a2b;--good:#6fd394;--bad:#ff9b92}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:76rem;padding:1.25rem;background:var(--back);color:var(--text);
font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.5rem;margin:0;line-height:1.2}h2{font-size:1.05rem;margin:0 0 .6rem}
header{margin-bottom:1.25rem}header p{margin:.3rem 0 0;color:var(--soft)}
a{color:var(--mark)}code,pre,textarea{font:13px/1.5 ui-monospace,Menlo,Consolas,monospace}
main{display:grid;gap:1.25rem}
@media(min-width:60rem){main{grid-template-columns:minmax(0,3fr) minmax(0,2fr);align-items:start}}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:1rem;min-width:0}
section+section{margin-top:1.25rem}
label{display:block;font-size:.875rem;color:var(--soft);margin-bottom:.25rem}
textarea,select,input,button{width:100%;color:inherit;background:var(--back);border:1px solid var(--line);
border-radius:6px;padding:.5rem .6rem}
select,input,button{font:inherit;min-height:2.6rem}
textarea{min-height:7.5rem;max-height:24rem;field-sizing:content;resize:vertical;display:block}
.row{display:flex;flex-wrap:wrap;gap:.75rem;margin-top:.75rem;align-items:end}.row>*{flex:1 1 10rem;min-width:0}
@media(min-width:40rem){.row>button{flex:0 1 11rem}}
button{background:var(--mark);color:var(--on);border-color:var(--mark);font-weight:600;cursor:pointer}
button:disabled{opacity:.6;cursor:wait}
:focus-visible{outline:3px solid var(--mark);outline-offset:2px}
#answer{margin-top:1rem;border-top:1px solid var(--line);padding-top:.9rem}
#status{font-weight:700}.good{color:var(--good)}.bad{color:var(--bad)}
pre{margin:.6rem 0 0;padding:.75rem;background:var(--back);border:1px solid var(--line);border-radius:6px;
max-height:28rem;overflow:auto;white-space:pre-wrap}
dl{display:grid;grid-template-columns:auto 1fr;gap:0 .75rem;margin:.4rem 0 0;font-size:.8125rem;color:var(--soft)}
dd{margin:0;font-family:ui-monospace,monospace}
ul{list-style:none;margin:0;padding:0}
li{padding:.55rem 0;border-top:1px solid var(--line)}li:first-child{border:0;padding-top:0}
li:last-child{padding-bottom:0}
li p,li details{margin:.15rem 0 0;font-size:.875rem;color:var(--soft)}
section>details{margin-top:.9rem}summary{cursor:pointer;color:var(--mark)}b+code{margin-left:.5rem}[hidden]{display:none}
"""

# Answers are shown as they were sent: parsed and printed again, long integers would be others.
SCRIPT = """\
'use strict';
const $=id=>document.getElementById(id),form=$('try'),body=$('body'),method=$('method'),key=$('key'),file=$('file');
const pretty=text=>{
 const found=text.match(/"(?:[^"\\\\]|\\\\.)*"|[{}[\\],:]|[^\\s{}[\\],:"]+/g)||[];let at=0;
 const node=pad=>{
  const open=found[at++];if(open!=='['&&open!=='{')return open;
  const shut=open==='['?']':'}',inner=pad+'  ',parts=[];let flat=open==='[';
  while(at<found.length&&found[at]!==shut){
   if(found[at]==='['||found[at]==='{')flat=false;
   let part=node(inner);if(found[at]===':'){at++;part+=': '+node(inner)}
   parts.push(part);if(found[at]===',')at++}
  at++;const line=open+parts.join(', ')+shut;
  return flat||line.length<72&&!line.includes('\\n')?line:open+'\\n'+parts.map(p=>inner+p).join(',\\n')+'\\n'+pad+shut};
 try{return text.length<3e5?node(''):text}catch{return text}};
const chosen=()=>file&&file.files[0],query=()=>{
 const q=new URLSearchParams(form.dataset.query);if(chosen()&&method&&method.selectedIndex)q.set('method',method.value);
 return q.size?'?'+q:''};
const kind=()=>{const f=chosen();if(!f)return 'application/json';
 return f.type||(f.name.endsWith('.npy')?'application/x-npy':'application/octet-stream')};
const curl=()=>{const quote=t=>"'"+t.replaceAll("'","'\\\\''")+"'",url=new URL('score'+query(),location.href).href;
 $('curl').textContent='curl '+quote(url)+(key?' -H "authorization: Bearer $KEY"':'')+" -H 'content-type: "+kind()+"' "
 +(chosen()?'--data-binary @'+quote(chosen().name):'-d '+quote(body.value))};
const send=async()=>{
 const button=form.querySelector('button'),status=$('status'),time=$('time'),list=$('headers'),shown=$('text');
 button.disabled=true;$('answer').hidden=false;status.className='';status.textContent='waiting \\u2026';
 time.textContent='';list.replaceChildren();shown.textContent='';
 const headers={'content-type':kind()};if(key&&key.value)headers.authorization='Bearer '+key.value;
 try{
  const began=performance.now(),got=await fetch('score'+query(),{method:'POST',headers,body:chosen()||body.value}),
   text=await got.text(),took=performance.now()-began,spent=got.headers.get('x-ms-run-fn-exec-ms');
  status.textContent=got.status+' '+got.statusText;status.className=got.ok?'good':'bad';
  time.textContent='in '+took.toFixed(1)+' ms'+(spent?', '+(+spent)+' ms of it scoring':'');
  for(const name of ['x-ms-request-id','x-ms-run-function-failed','retry-after','content-type']){
   const value=got.headers.get(name);if(value===null||value==='application/json')continue;
   const term=document.createElement('dt'),shown=document.createElement('dd');
   term.textContent=name;shown.textContent=value;list.append(term,shown)}
  shown.textContent=(got.headers.get('content-type')||'').includes('json')?pretty(text):text;
 }catch(error){status.textContent='no answer: '+error.message;status.className='bad'}
 button.disabled=false};
if(method)method.addEventListener('change',()=>{
 try{const asked=JSON.parse(body.value);
  if(method.selectedIndex)asked.method=method.value;else delete asked.method;
  if(asked&&!/\\d{16}/.test(body.value))body.value=pretty(JSON.stringify(asked))}catch{}
 curl()});
form.addEventListener('submit',event=>{event.preventDefault();send()});
form.addEventListener('keydown',event=>{if(event.key==='Enter'&&(event.ctrlKey||event.metaKey)){event.preventDefault();
 form.requestSubmit()}});
form.addEventListener('input',curl);
const models=$('model');if(models)models.addEventListener('change',()=>models.form.submit());
body.value=pretty(body.value);curl();
"""
