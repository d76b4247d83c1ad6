// Takes orders from the queue, has them paid by a provider, answers questions about quotes.
const http = require('http');
const net = require('net');
const fs = require('fs');

const providers = () => JSON.parse(fs.readFileSync(__dirname + '/providers.json', 'utf8'));
let turn = 0, paid = 0;

function pay(order) {
  const all = providers();
  const { host, port } = all[turn++ % all.length];
  const request = http.request({ host, port, method: 'POST', path: '/pay', timeout: 3000 }, (answer) => {
    answer.resume();
    answer.on('end', () => { paid += 1; });
  });
  request.on('error', () => {});
  request.end(JSON.stringify(order));
}

function takeOrders() {
  const queue = net.connect(6379, '127.0.0.1');
  const ask = () => queue.write('*3\r\n$5\r\nBRPOP\r\n$6\r\norders\r\n$1\r\n5\r\n');
  queue.on('connect', ask);
  queue.on('data', (bytes) => {
    const text = bytes.toString();
    const at = text.indexOf('{');
    if (at >= 0) { try { pay(JSON.parse(text.slice(at).trim())); } catch { /* half an answer: the next one is whole */ } }
    ask();
  });
  queue.on('error', () => {});
  queue.on('close', () => setTimeout(takeOrders, 1000));
}

function work(rounds) {
  let sum = 0;
  for (let i = 0; i < rounds; i++) sum = (sum * 31 + i) % 1000003;
  return sum;
}

http.createServer((request, answer) => {
  const url = new URL(request.url, 'http://orders');
  let text = '';
  if (url.pathname === '/quote') {
    // A formula from the customer, evaluated: code execution inside this process.
    try { text = String(eval(url.searchParams.get('formula') || '1')); } catch (error) { text = String(error); }
  } else if (url.pathname === '/work') {
    text = String(work(Number(url.searchParams.get('rounds') || 1e6)));
  } else {
    text = JSON.stringify({ paid });
  }
  answer.end(text + '\n');
}).listen(3000, '127.0.0.1');

takeOrders();
