// SPDX-License-Identifier: MIT
// Messages that are odd and in order, each with what is to be understood: what other parsers' tests have, and ours had not.
#pragma once

#include <string>
#include <vector>

namespace troth::test {

struct Message {
  std::string bytes;
  /// "METHOD(target)1.1k[Name|value]{content}[Trailer|value]+what is behind it"; of a response "status(reason)…". The
  /// connection is kept (k) or closed (c) afterwards.
  std::string understood;
};

inline std::vector<Message> wellFormedRequests() {
  const std::string get = "GET / HTTP/1.1\r\nHost: a\r\n", post = "POST / HTTP/1.1\r\nHost: a\r\n";
  const std::string chunked = post + "Transfer-Encoding: chunked\r\n\r\n";
  const std::string posted = "POST(/)1.1k[Host|a]", inChunks = posted + "[Transfer-Encoding|chunked]";
  return {
      // Methods, of other protocols too: one that is unknown is not malformed.
      {"ANNOUNCE / HTTP/1.0\r\nHost: a\r\n\r\n", "ANNOUNCE(/)1.0c[Host|a]{}+"},
      {"MKCOLA / HTTP/1.1\r\nHost: a\r\n\r\n", "MKCOLA(/)1.1k[Host|a]{}+"},
      {"PURGE /f HTTP/1.1\r\nHost: a\r\n\r\n", "PURGE(/f)1.1k[Host|a]{}+"},
      {"LINK /f HTTP/1.1\r\nHost: a\r\nLink: <http://a/j>; rel=\"t\"\r\nLink: <b>\r\n\r\n",
       "LINK(/f)1.1k[Host|a][Link|<http://a/j>; rel=\"t\"][Link|<b>]{}+"},
      {"PATCH /f HTTP/1.1\r\nHost: a\r\nIf-Match: \"e\"\r\nContent-Length: 3\r\n\r\nabc",
       "PATCH(/f)1.1k[Host|a][If-Match|\"e\"][Content-Length|3]{abc}+"},
      // Targets.
      {"GET /\"a\"?b=\\\"c\\\" HTTP/1.1\r\nHost: a\r\n\r\n", "GET(/\"a\"?b=\\\"c\\\")1.1k[Host|a]{}+"},
      {"GET /t?a=b?c=| HTTP/1.1\r\nHost: a\r\n\r\n", "GET(/t?a=b?c=|)1.1k[Host|a]{}+"},
      {"GET http://a.org?b=c HTTP/1.1\r\nHost: a\r\n\r\n", "GET(http://a.org?b=c)1.1k[Host|a]{}+"},
      {"GET http://a.org:1234?b=c HTTP/1.1\r\nHost: a\r\n\r\n", "GET(http://a.org:1234?b=c)1.1k[Host|a]{}+"},
      {"GET http://a.org:1234 HTTP/1.1\r\nHost: a\r\n\r\n", "GET(http://a.org:1234)1.1k[Host|a]{}+"},
      {"CONNECT HOME_0.A.COM:443 HTTP/1.0\r\n\r\ndata", "CONNECT(HOME_0.A.COM:443)1.0c{}+data"},
      // Fields.
      {"GET / HTTP/1.1\r\nHost: 0.0.0.0=5000\r\nX:\t b\r\naaaa:++++\r\nX-$Y: z\r\n.a: b\r\n_b: c\r\nT: D\xfcs\r\n\r\n",
       "GET(/)1.1k[Host|0.0.0.0=5000][X|b][aaaa|++++][X-$Y|z][.a|b][_b|c][T|D\xfcs]{}+"},
      {"\r\nGET /t HTTP/1.0\r\nHost: 0.0.0.0:5000\r\nUser-Agent: b/2.3\r\n\r\n",
       "GET(/t)1.0c[Host|0.0.0.0:5000][User-Agent|b/2.3]{}+"},
      {get + "Connection: close, token, upgrade, token, keep-alive\r\n\r\n",
       "GET(/)1.1c[Host|a][Connection|close, token, upgrade, token, keep-alive]{}+"},
      {get + "Connection: keep-alive\r\nConnection: close\r\n\r\n",
       "GET(/)1.1c[Host|a][Connection|keep-alive][Connection|close]{}+"},
      {get + "Keep-Alive: 300\r\nConnection: keep-alive\r\n\r\n",
       "GET(/)1.1k[Host|a][Keep-Alive|300][Connection|keep-alive]{}+"},
      {"PUT / HTTP/1.0\r\n\r\nPUT / HTTP/1.1\r\n\r\n", "PUT(/)1.0c{}+PUT / HTTP/1.1\r\n\r\n"},
      {post + "Connection: Upgrade\r\nUpgrade: HTTP/2.0\r\nContent-Length: 4\r\n\r\nbodyrest",
       posted + "[Connection|Upgrade][Upgrade|HTTP/2.0][Content-Length|4]{body}+rest"},
      {get + "Connection: keep-alive, upgrade\r\nUpgrade: x\r\n\r\nrest",
       "GET(/)1.1k[Host|a][Connection|keep-alive, upgrade][Upgrade|x]{}+rest"},
      // Content.
      {post + "Content-Length: 003\r\nA: b\r\n\r\nabc", posted + "[Content-Length|003][A|b]{abc}+"},
      {post + "Content-Length:  4 \r\n\r\nabcd", posted + "[Content-Length|4]{abcd}+"},
      {post + "Content-Length-X: 9\r\nContent-Length: 4\r\n\r\nabcd", posted + "[Content-Length-X|9][Content-Length|4]{abcd}+"},
      {post + "Content-Lengt: 9\r\n\r\nGET", posted + "[Content-Lengt|9]{}+GET"},
      {"GET / HTTP/1.0\r\nconTENT-Length: 5\r\n\r\nHELLO", "GET(/)1.0c[conTENT-Length|5]{HELLO}+"},
      {post + "Content-Length: 3\r\n\r\nAAA\r\nPUT / HTTP", posted + "[Content-Length|3]{AAA}+\r\nPUT / HTTP"},
      {get + "Connection: close \r\nTransfer-Encoding: chunked \r\n\r\n5\r\nABCDE\r\n0\r\n\r\nGET",
       "GET(/)1.1c[Host|a][Connection|close][Transfer-Encoding|chunked]{ABCDE}+GET"},
      {chunked + "a\r\n0123456789\r\n000\r\n\r\n", inChunks + "{0123456789}+"},
      {chunked + "00000A\r\n0123456789\r\n0;a\r\n\r\n", inChunks + "{0123456789}+"},
      {chunked + "5;a;b;c=d\r\nhello\r\n6;e=\"f; g\";h\r\n world\r\n0\r\nVary: *\r\nContent-Type: text/plain\r\n\r\n",
       inChunks + "{hello world}[Vary|*]+"},
      {chunked + "9\r\n0\r\n\r\nGET \r\n0\r\n\r\n", inChunks + "{0\r\n\r\nGET }+"},
  };
}

inline std::vector<Message> responses() {
  const std::string ok = "HTTP/1.1 200 OK\r\n", chunked = ok + "Transfer-Encoding: chunked\r\n\r\n";
  const std::string upgrade = "Connection: upgrade\r\nUpgrade: x\r\n", upgraded = "[Connection|upgrade][Upgrade|x]";
  return {
      {"HTTP/1.1 200  OK\r\nContent-Length: 0\r\n\r\n", "200( OK)1.1k[Content-Length|0]{}+"},
      {"HTTP/1.1 500 Ori\xeb\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "500(Ori\xeb)1.1c[Content-Length|0][Connection|close]{}+"},
      {"HTTP/1.0 301 M\r\nPragma: \r\nLocation: http://b/\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
       "301(M)1.0k[Pragma|][Location|http://b/][Content-Length|0][Connection|keep-alive]{}+"},
      {ok + ".et-Cookie: P=1\r\n_onnection: Keep-Alive\r\nD_i: v7;x;~o=;~c=o\r\nX-$P: 1\r\nTransfer-Encoding: chunked\r\n"
            "Connection: close\r\n\r\n1\r\n\n\r\n0\r\n\r\n",
       "200(OK)1.1c[.et-Cookie|P=1][_onnection|Keep-Alive][D_i|v7;x;~o=;~c=o][X-$P|1][Transfer-Encoding|chunked]"
       "[Connection|close]{\n}+"},
      {ok + "Content-Length:  5  \r\n\r\nhello", "200(OK)1.1k[Content-Length|5]{hello}+"},
      {ok + "Content-Length-X: 0\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n0\r\n\r\n",
       "200(OK)1.1k[Content-Length-X|0][Transfer-Encoding|chunked]{OK}+"},
      {ok + "Content-Length: 5\r\nConnection: close\r\n\r\nhello more", "200(OK)1.1c[Content-Length|5][Connection|close]{hello}+ more"},
      {"HTTP/1.0 204 No\r\nConnection: keep-alive\r\n\r\nHTTP", "204(No)1.0k[Connection|keep-alive]{}+HTTP"},
      {"HTTP/1.1 204 No\r\nConnection: close\r\n\r\nHTTP", "204(No)1.1c[Connection|close]{}+HTTP"},
      {"HTTP/1.1 101 S\r\n" + upgrade + "Content-Length: 4\r\n\r\nproto", "101(S)1.1k" + upgraded + "[Content-Length|4]{}+proto"},
      {"HTTP/1.1 101 S\r\n" + upgrade + "Transfer-Encoding: chunked\r\n\r\nproto", "101(S)1.1k" + upgraded + "[Transfer-Encoding|chunked]{}+proto"},
      {ok + upgrade + "Content-Length: 4\r\n\r\nbody", "200(OK)1.1k" + upgraded + "[Content-Length|4]{body}+"},
      {ok + upgrade + "Transfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n", "200(OK)1.1k" + upgraded + "[Transfer-Encoding|chunked]{body}+"},
      {chunked + "5;a=\"b; c\";d=\"e\";f\r\nhello\r\n0\r\n\r\n", "200(OK)1.1k[Transfer-Encoding|chunked]{hello}+"},
      {ok + "Content-Length: 3\r\n\r\nAAA\r\nHTTP/1.1 201", "200(OK)1.1k[Content-Length|3]{AAA}+\r\nHTTP/1.1 201"},
      // To the end of the connection.
      {ok + "\r\nHTTP/1.1 200 OK", "more"},
      {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nHTTP/1.0 200 OK", "more"},
      {"HTTP/1.1 404 Not Found\r\n\r\n", "more"},
      {"HTTP/1.1 301\r\n\r\n", "more"},
      {ok + upgrade + "\r\nbody", "more"},
      // Malformed.
      {"HTP/1.1 200 OK\r\n\r\n", "400 "},
      {"HTTPER/1.1 200 OK\r\n\r\n", "400 "},
      {"http/1.1 200 OK\r\n\r\n", "400 "},
      {"RTSP/1.1 200 OK\r\n\r\n", "400 "},
      {"ICE/1.1 200 OK\r\n\r\n", "400 "},
      {"ICY 200 OK\r\n\r\n", "400 "},
      {"HTTP/01.1 200 OK\r\n\r\n", "505 "},
      {"HTTP/11.1 200 OK\r\n\r\n", "505 "},
      {"HTTP/1.01 200 OK\r\n\r\n", "505 "},
      {"HTTP/1.1\t200 OK\r\n\r\n", "505 "},
      {"\rHTTP/1.1\t200 OK\r\n\r\n", "505 "},
      {"HTTP/0.9 200 OK\r\n\r\n", "505 "},
      {"HTTP/5.6 200 OK\r\n\r\n", "505 "},
      {"HTTP/1.1 2000 OK\r\n\r\n", "400 "},
      {"HTTP/1.1 200OK\r\n\r\n", "400 "},
      {"HTTP/1.1 20x OK\r\n\r\n", "400 "},
      {"HTTP/1.1 200 OK\nContent-Length: 0\n\n", "400 "},
      {ok + " Host: a\r\n\r\n", "400 "},
      {ok + "A: 1\rB: 2\r\n\r\n", "400 "},
      {ok + "A: b\nC: d\r\n\r\n", "400 "},
      {ok + "A: b\r\n c\r\n\r\n", "400 "},
      {ok + "en-US A: b\r\n\r\n", "400 "},
      {ok + "A : b\r\n\r\n", "400 "},
      {ok + ": b\r\n\r\n", "400 "},
      {ok + "A\r\n\r\n", "400 "},
      {ok + "A: b\r\n\n", "400 "},
      {ok + "\rX", "400 "},
      {ok + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "400 "},
      {ok + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "400 "},
      {ok + "Content-Length: 5, 5\r\n\r\nhello", "400 "},
      {ok + "Content-Length: -5\r\n\r\nhello", "400 "},
      {ok + "Content-Length:\r\n\r\nhello", "400 "},
      {ok + "Transfer-Encoding:\r\nContent-Length: 5\r\n\r\nhello", "400 "},
      {ok + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "400 "},
      {ok + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 "},
      {ok + "Transfer-Encoding: chunked, deflate\r\n\r\nbody", "400 "},
      {ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\nbody", "400 "},
      {ok + "Transfer-Encoding: chunkedchunked\r\n\r\n0\r\n\r\n", "400 "},
      {ok + "Transfer-Encoding: deflate, chunked\r\n\r\n0\r\n\r\n", "501 "},
      {ok + "Transfer-Encoding: identity\r\n\r\nbody", "400 "},
      {ok + "Transfer-Encoding: chunked\r\n  abc\r\n\r\n0\r\n\r\n", "400 "},
      {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 "},
      {chunked + "5  \r\nhello\r\n0\r\n\r\n", "400 "},
      {chunked + "2 a\r\nxx\r\n0 b\r\n\r\n", "400 "},
      {chunked + "2;\r\nxx\r\n0\r\n\r\n", "400 "},
      {chunked + "5;a=\"b\";c=\"d; e\r\nhello\r\n0\r\n\r\n", "400 "},
  };
}

} // namespace troth::test
