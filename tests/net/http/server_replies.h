// SPDX-License-Identifier: MIT
// What servers say, in order and not, and what a client makes of it.
#pragma once

#include <troth/net/http/method.h>

#include <string>
#include <vector>

namespace troth::test {

/// `outcome` is the status, if the head was taken, and then the content in braces, and "kept" if the connection waits
/// for another request; or what the request, or reading the content, fails with. After the last byte the connection
/// ends if more is waited for.
///
/// curl 7.88 takes each of the replies that are taken here, with the same content; so does Python's http.client, but for
/// some interim ones. Both also take many that are refused here: heads that break off, folded lines, names and values
/// that are none, lengths with a sign or something behind them, several lengths, lengths beside chunks, chunks in
/// HTTP/1.0, line feeds alone. Where two readers of one reply may disagree on where it ends, one of them can be made to
/// take a part of it for the answer to another request, so the client refuses those (RFC 9112, sections 6.3 and 11.2).
struct ServerReply {
  std::string outcome, bytes;
  http::Method method = http::Method::GET;
};

inline std::vector<ServerReply> serverReplies() {
  using std::literals::operator""s;
  const std::string ok = "HTTP/1.1 200 OK\r\n", chunked = ok + "Transfer-Encoding: chunked\r\n\r\n";
  const std::string one = "Content-Length: 1\r\n\r\nx", none = "Content-Length: 0\r\n\r\n";
  const auto head = http::Method::HEAD;
  return {
      // The status line (RFC 9112, section 4).
      {"200 {x} kept", "HTTP/1.1 200 OK\r\n" + one},
      {"200 {x} kept", "HTTP/1.1 200 \r\n" + one},
      {"200 {x} kept", "HTTP/1.1 200\r\n" + one}, // the space is missing; many a server is like that
      {"200 {x} kept", "HTTP/1.1 200 All is very well!\r\n" + one},
      {"200 {x} kept", "HTTP/1.1 200 200\r\n" + one},
      {"200 {x} kept", "HTTP/1.1 200  two  spaces \r\n" + one},
      {"200 {x} kept", "HTTP/1.1 200 a\ttab\r\n" + one},
      {"200 {x} kept", "HTTP/1.1 200 \xc3\xa9t\xe9\r\n" + one},
      {"299 {x} kept", "HTTP/1.1 299 New\r\n" + one},
      {"404 {x} kept", "HTTP/1.1 404 No\r\n" + one},
      {"500 {x} kept", "HTTP/1.1 500 Oh\r\n" + one},
      {"600 {x} kept", "HTTP/1.1 600 Odd\r\n" + one},
      {"999 {x} kept", "HTTP/1.1 999 Odd\r\n" + one},
      {"200 {x}", "HTTP/1.0 200 OK\r\n" + one},
      {"FAILED", "hello\r\n\r\n"}, // HTTP/0.9 has no head; nobody means it any more
      {"FAILED", "<html></html>"},
      {"FAILED", "\xef\xbb\xbf" + ok + one},
      {"FAILED", "\r\n200 OK\r\n\r\n"},
      {"FAILED", "HTTP/1.1 20 OK\r\n\r\n"},
      {"FAILED", "HTTP/1.1 2 OK\r\n\r\n"},
      {"FAILED", "HTTP/1.1 2000 OK\r\n\r\n"},
      {"FAILED", "HTTP/1.1 200OK\r\n\r\n"},
      {"FAILED", "HTTP/1.1 abc OK\r\n\r\n"},
      {"FAILED", "HTTP/1.1 -20 OK\r\n\r\n"},
      {"FAILED", "HTTP/1.1 2.0 OK\r\n\r\n"},
      {"FAILED", "HTTP/1.1 099 OK\r\n\r\n"},
      {"FAILED", "HTTP/1.1 000 OK\r\n\r\n"},
      {"FAILED", "HTTP/1.1\r\n\r\n"},
      {"FAILED", "HTTP/1.1 \r\n\r\n"},
      {"FAILED", "HTTP/2.0 200 OK\r\n\r\n"},
      {"FAILED", "HTTP/2 200 OK\r\n\r\n"},
      {"FAILED", "HTTP/0.9 200 OK\r\n\r\n"},
      {"FAILED", "HTTP/1.2 200 OK\r\n\r\n"},
      {"FAILED", "HTTP/1 200 OK\r\n\r\n"},
      {"FAILED", "HTTP/11 200 OK\r\n\r\n"},
      {"FAILED", "HTTP/1.10 200 OK\r\n\r\n"},
      {"FAILED", "HTTP/1.a 200 OK\r\n\r\n"},
      {"FAILED", "HTTP/ 1.1 200 OK\r\n\r\n"},
      {"FAILED", "HTTP 1.1 200 OK\r\n\r\n"},
      {"FAILED", "HTTPS/1.1 200 OK\r\n\r\n"},
      {"FAILED", "http/1.1 200 OK\r\n\r\n"},
      {"FAILED", " HTTP/1.1 200 OK\r\n\r\n"},
      {"FAILED", "ICY 200 OK\r\n\r\n"},
      {"FAILED", "RTSP/1.0 200 OK\r\n\r\n"},
      {"FAILED", "HTTP/1.1  200 OK\r\n\r\n"},
      {"FAILED", "HTTP/1.1\t200 OK\r\n\r\n"},
      {"FAILED", "HTTP/1.1 200 OK\rContent-Length: 0\r\n\r\n"},
      {"FAILED", "HTTP/1.1 200 O\0K\r\n\r\n"s},
      {"FAILED", "HTTP/1.1 200 O\x7fK\r\n\r\n"},
      {"FAILED", "HTTP/1.1 200 OK\nContent-Length: 0\n\n"}, // a recipient may take it (section 2.2); it need not
      // Interim responses (RFC 9110, section 15.2).
      {"200 {x} kept", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 199 ?\r\n\r\n" + ok + one},
      {"200 {x} kept", "HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n" + ok + one},
      {"200 {x} kept", "HTTP/1.1 102 \r\nTransfer-Encoding: chunked\r\n\r\n" + ok + one},
      {"200 {x} kept", "HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\n" + ok + one},
      {"200 {x}", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\n\r\nx"},
      {"DISCONNECTED", "HTTP/1.1 100 Continue\r\n\r\n"},
      {"DISCONNECTED", "HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 2"},
      {"FAILED", "HTTP/1.1 100 Continue\r\n\r\nnonsense\r\n\r\n"},
      {"FAILED", "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"}, // nobody has asked
      // Fields (RFC 9112, section 5).
      {"200 {x} kept", ok + "A:b\r\n" + one},
      {"200 {x} kept", ok + "A: \t b \t\r\n" + one},
      {"200 {x} kept", ok + "A:\r\nB: \r\n" + one},
      {"200 {x} kept", ok + "A: b:c=d;\"e\\\"\", \xff\r\n" + one},
      {"200 {x} kept", ok + "!#$%&'*+-.^_`|~0aZ: b\r\n" + one},
      {"200 {x} kept", ok + "Set-Cookie: a=b\r\nSet-Cookie: c=d\r\n" + one},
      {"200 {x} kept", ok + "Content-Type: a\r\nContent-Type: b\r\n" + one},
      {"200 {x} kept", ok + "Date: whenever\r\nAge: x\r\nExpires: -1\r\n" + one},
      {"FAILED", ok + "A : b\r\n\r\n"},
      {"FAILED", ok + "A\t: b\r\n\r\n"},
      {"FAILED", ok + " A: b\r\n\r\n"},
      {"FAILED", ok + ": b\r\n\r\n"},
      {"FAILED", ok + "A\r\n\r\n"},
      {"FAILED", ok + "A b: c\r\n\r\n"},
      {"FAILED", ok + "A\0: c\r\n\r\n"s},
      {"FAILED", ok + "\xc3\xa9: c\r\n\r\n"},
      {"FAILED", ok + "(A): c\r\n\r\n"},
      {"FAILED", ok + "A: b\r\n c\r\n\r\n"}, // a folded line (section 5.2)
      {"FAILED", ok + "A: b\r\n\tc\r\n\r\n"},
      {"FAILED", ok + "A: b\nB: c\r\n\r\n"},
      {"FAILED", ok + "A: b\rB: c\r\n\r\n"},
      {"FAILED", ok + "A: b\0c\r\n\r\n"s},
      {"FAILED", ok + "A: \x01\r\n\r\n"},
      {"FAILED", ok + "A: b\x7f\r\n\r\n"},
      {"FAILED", ok + "A: b\r\n\rC: d\r\n\r\n"},
      {"FAILED", ok + "A: b\r\r\n\r\n"},
      {"FAILED", ok + "Content-Length: 1\r\n\nx"},
      {"DISCONNECTED", ok + "A: b\r\n"},
      {"DISCONNECTED", ok + "A: b\r\n\r"},
      // Lengths (RFC 9112, section 6.3).
      {"200 {} kept", ok + none},
      {"200 {seven b} kept", ok + "Content-Length: 0007\r\n\r\nseven b"},
      {"200 {abc} kept", ok + "content-length:\t3 \r\n\r\nabc"},
      {"200 {x}", ok + "Content-Length: 1\r\n\r\nxy"}, // what is too much is nobody's answer
      {"200 {x}", ok + one + ok + one},
      {"200 {x}", ok + one + "\r\n"},
      {"FAILED", ok + "Content-Length: -1\r\n\r\n"},
      {"FAILED", ok + "Content-Length: +1\r\n\r\nx"},
      {"FAILED", ok + "Content-Length: 1x\r\n\r\nx"},
      {"FAILED", ok + "Content-Length: 0x1\r\n\r\nx"},
      {"FAILED", ok + "Content-Length: 1.0\r\n\r\nx"},
      {"FAILED", ok + "Content-Length: 1 1\r\n\r\nx"},
      {"FAILED", ok + "Content-Length: 1, 1\r\n\r\nx"}, // may be taken for one (RFC 9110, section 8.6); it need not
      {"FAILED", ok + "Content-Length: 1;\r\n\r\nx"},
      {"FAILED", ok + "Content-Length: \"1\"\r\n\r\nx"},
      {"FAILED", ok + "Content-Length:\r\n\r\nx"},
      {"FAILED", ok + "Content-Length: x\r\n\r\nx"},
      {"FAILED", ok + "Content-Length: 99999999999999999999\r\n\r\nx"},
      {"FAILED", ok + "Content-Length: 18446744073709551616\r\n\r\nx"},
      {"FAILED", ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"},
      {"FAILED", ok + "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx"},
      {"FAILED", ok + "Content-Length: 0\r\nContent-Length: 1\r\n\r\nx"},
      {"FAILED", ok + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
      {"FAILED", ok + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"},
      {"200 DISCONNECTED", ok + "Content-Length: 18446744073709551615\r\n\r\nx"},
      {"200 DISCONNECTED", ok + "Content-Length: 3\r\n\r\n"},
      {"200 DISCONNECTED", ok + "Content-Length: 3\r\n\r\nab"},
      {"200 DISCONNECTED", "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nab"},
      {"DISCONNECTED", ""},
      {"DISCONNECTED", "H"},
      {"DISCONNECTED", "HTTP/1.1 200 OK\r\n"},
      {"DISCONNECTED", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"},
      // To the end of the connection.
      {"200 {to the end}", ok + "\r\nto the end"},
      {"200 {to the end}", "HTTP/1.0 200 OK\r\n\r\nto the end"},
      {"200 {}", ok + "\r\n"},
      {"200 {to the end}", ok + "Connection: keep-alive\r\n\r\nto the end"},
      {"200 {to the end}", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nto the end"},
      {"200 {" + ok + one + "}", ok + "\r\n" + ok + one},
      // Whether the connection is kept (RFC 9112, section 9.3; RFC 2068, section 19.7.1).
      {"200 {x} kept", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + one},
      {"200 {x} kept", "HTTP/1.0 200 OK\r\nconnection: Keep-Alive, foo\r\n" + one},
      {"200 {x} kept", "HTTP/1.0 200 OK\r\nProxy-Connection: keep-alive\r\n" + one}, // as old proxies have it
      {"200 {x}", ok + "Connection: close\r\n" + one},
      {"200 {x}", ok + "connection: x, Close\r\n" + one},
      {"200 {x}", ok + "Connection: keep-alive, close\r\n" + one},
      {"200 {x}", ok + "Connection: keep-alive\r\nConnection: close\r\n" + one},
      {"200 {x} kept", ok + "Connection: closed\r\n" + one},
      {"200 {x} kept", ok + "Keep-Alive: timeout=5, max=100\r\n" + one},
      {"200 {x} kept", ok + "Keep-Alive: 5, x=y, timeout, timeout=-1, max=x\r\n" + one},
      {"200 {x}", ok + "Keep-Alive: timeout=0\r\n" + one},
      {"200 {x}", ok + "Keep-Alive: timeout=5\r\nKeep-Alive: MAX = 0\r\n" + one},
      // Chunks (RFC 9112, section 7.1).
      {"200 {abc0123456789} kept", chunked + "3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nT: u\r\n\r\n"},
      {"200 {abc} kept", ok + "transfer-encoding: Chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n"},
      {"200 {abc} kept", chunked + "0003\r\nabc\r\n000\r\n\r\n"},
      {"200 {0123456789} kept", chunked + "a\r\n0123456789\r\n0\r\n\r\n"},
      {"200 {abc} kept", chunked + "3;a\r\nabc\r\n0;x\r\n\r\n"},
      {"200 {abc} kept", chunked + "3;a;b\r\nabc\r\n0\r\n\r\n"},
      {"200 {abc} kept", chunked + "3;b=c\r\nabc\r\n0\r\n\r\n"},
      {"200 {abc} kept", chunked + "3;a=\"b\"\r\nabc\r\n0\r\n\r\n"},
      {"200 {abc} kept", chunked + "3;a=\"b c\"\r\nabc\r\n0\r\n\r\n"},
      {"200 {abc} kept", chunked + "3;a=\"b;c\"\r\nabc\r\n0\r\n\r\n"},
      {"200 {abc} kept", chunked + "3;a=\"b\";c\r\nabc\r\n0\r\n\r\n"},
      {"200 {\r\n0} kept", chunked + "3\r\n\r\n0\r\n0\r\n\r\n"},
      {"200 {} kept", chunked + "0\r\n\r\n"},
      {"200 {} kept", chunked + "0\r\nA: b\r\nC: d\r\n\r\n"},
      {"200 {}", chunked + "0\r\n\r\nx"},
      {"200 {x}", ok + "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"},
      {"FAILED", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
      {"FAILED", ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"}, // it had to be asked for, by TE
      {"FAILED", ok + "Transfer-Encoding: gzip\r\n\r\nx"},
      {"FAILED", ok + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"},
      {"FAILED", ok + "Transfer-Encoding: identity\r\n\r\n0\r\n\r\n"},
      {"FAILED", ok + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"},
      {"FAILED", ok + "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"},
      {"FAILED", ok + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"},
      {"FAILED", ok + "Transfer-Encoding:\r\n\r\n0\r\n\r\n"},
      {"FAILED", ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
      {"FAILED", ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"},
      {"FAILED", ok + "Transfer-Encoding:\x0b" "chunked\r\n\r\n0\r\n\r\n"},
      {"200 FAILED", chunked + "g\r\n"},
      {"200 FAILED", chunked + "\r\nabc\r\n0\r\n\r\n"},
      {"200 FAILED", chunked + "-1\r\n"},
      {"200 FAILED", chunked + "+1\r\nx\r\n0\r\n\r\n"},
      {"200 FAILED", chunked + " 1\r\nx\r\n0\r\n\r\n"},
      {"200 FAILED", chunked + "0x1\r\nx\r\n0\r\n\r\n"},
      {"200 FAILED", chunked + "1 2\r\nx\r\n0\r\n\r\n"},
      {"200 FAILED", chunked + "10000000000000000\r\n"},
      {"200 FAILED", chunked + "ffffffffffffffffff\r\n"},
      {"200 FAILED", chunked + "1\r\nxy\r\n0\r\n\r\n"},
      {"200 FAILED", chunked + "2\r\nx\r\n0\r\n\r\n"},
      {"200 FAILED", chunked + "1\nx\n0\n\n"},
      {"200 FAILED", chunked + "1\r\nx\n0\r\n\r\n"},
      {"200 FAILED", chunked + "1\r\nx\r0\r\n\r\n"},
      {"200 FAILED", chunked + "1;\rx\r\nx\r\n0\r\n\r\n"},
      {"200 FAILED", chunked + "0\r\nA : b\r\n\r\n"},
      {"200 FAILED", chunked + "0\r\nA: b\r\n c\r\n\r\n"},
      {"200 FAILED", chunked + "0\r\nA: \x01\r\n\r\n"},
      {"200 FAILED", chunked + "0\r\nnonsense\r\n\r\n"},
      {"200 DISCONNECTED", chunked},
      {"200 DISCONNECTED", chunked + "3"},
      {"200 DISCONNECTED", chunked + "3\r\nab"},
      {"200 DISCONNECTED", chunked + "3\r\nabc"},
      {"200 DISCONNECTED", chunked + "3\r\nabc\r\n"},
      {"200 DISCONNECTED", chunked + "3\r\nabc\r\n0\r\n"},
      {"200 DISCONNECTED", chunked + "3\r\nabc\r\n0\r\nA: b\r\n"},
      {"200 DISCONNECTED", chunked + "ffffffffffffff\r\nx"},
      // No content, whatever the fields say (RFC 9112, section 6.3).
      {"204 {} kept", "HTTP/1.1 204 None\r\n\r\n"},
      {"204 {} kept", "HTTP/1.1 204 None\r\nContent-Length: 5\r\n\r\n"},
      {"204 {} kept", "HTTP/1.1 204 None\r\nTransfer-Encoding: chunked\r\n\r\n"},
      {"204 {}", "HTTP/1.1 204 None\r\nContent-Length: 1\r\n\r\nx"},
      {"205 {} kept", "HTTP/1.1 205 Reset\r\n" + none},
      {"304 {} kept", "HTTP/1.1 304 Same\r\nContent-Length: 5\r\nETag: \"x\"\r\n\r\n"},
      {"304 {} kept", "HTTP/1.1 304 Same\r\nTransfer-Encoding: chunked\r\n\r\n"},
      {"304 {}", "HTTP/1.1 304 Same\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
      {"FAILED", "HTTP/1.1 204 None\r\nContent-Length: x\r\n\r\n"},
      {"200 {} kept", ok + "Content-Length: 5\r\n\r\n", head},
      {"200 {} kept", ok + "Transfer-Encoding: chunked\r\n\r\n", head},
      {"200 {} kept", ok + "\r\n", head},
      {"200 {}", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", head},
      {"200 {}", ok + one, head},
      {"404 {} kept", "HTTP/1.1 404 No\r\nContent-Length: 18446744073709551615\r\n\r\n", head},
      {"FAILED", ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", head},
  };
}

} // namespace troth::test
