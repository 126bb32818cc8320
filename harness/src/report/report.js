const chart = document.getElementById('timeline'), cross = document.getElementById('cross'), tip = document.getElementById('tip');
const ms = v => v === null ? '–' : v >= 1000 ? (v / 1000).toFixed(2) + ' s' : v.toFixed(1) + ' ms';
chart.addEventListener('mousemove', event => {
  const box = chart.getBoundingClientRect();
  const x = (event.clientX - box.left) * data.width / box.width;
  const t = (x - data.left) / (data.width - data.left - data.right) * data.span;
  const p = data.points.find(p => t >= p.second && t < p.second + data.bucket);
  if (!p) { return leave(); }
  cross.setAttribute('transform', `translate(${x} 0)`);
  cross.style.visibility = 'visible';
  const at = Math.floor(p.second / 60) + ':' + String(p.second % 60).padStart(2, '0');
  tip.textContent = `${at}   asked ${p.target.toFixed(0)}/s\nok ${p.ok}  refused ${p.fail}  unknown ${p.unknown}  dropped ${p.dropped}\n`
    + `p50 ${ms(p.p50_ms)}  p95 ${ms(p.p95_ms)}  p99 ${ms(p.p99_ms)}`;
  tip.style.display = 'block';
  const left = event.clientX - box.left;
  tip.style.left = (left > box.width / 2 ? left - tip.offsetWidth - 16 : left + 16) + 'px';
});
function leave() { cross.style.visibility = 'hidden'; tip.style.display = 'none'; }
chart.addEventListener('mouseleave', leave);
