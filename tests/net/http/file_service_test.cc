// SPDX-License-Identifier: MIT
// Files over HTTP: which there are for whom, conditions, ranges, compressed siblings.
#include "../../io/temporary_directory.h"
#include "serving.h"

#include <troth/net/http/content_type.h>
#include <troth/net/http/file_service.h>
#include <troth/net/http/http_error.h>
#include <troth/net/http/router.h>

#include <chrono>
#include <filesystem>
#include <optional>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

using namespace troth;
using namespace troth::http;
using namespace troth::test;
using namespace std::chrono;

namespace {

/// A directory with files that are an hour old, and a server of it.
class FilesTest : public IoTest {
public:
  FilesTest() : directory(openDirectory(io, disk.inside()).wait(scope)) {}

  void put(std::string_view name, std::string_view contents, seconds age = seconds(3600)) {
    disk.write(name, contents);
    std::filesystem::last_write_time(disk.inside(name), std::filesystem::file_time_type::clock::now() - age);
  }
  void serve(FileSettings settings = {}) {
    serving.reset();
    files.emplace(*directory, std::move(settings));
    serving.emplace(*files, scope);
  }
  Reply get(std::string_view path, std::string_view fields = "") {
    if (!serving) serve();
    return serving->get(path, fields);
  }

  TemporaryDirectory disk;
  std::unique_ptr<Directory> directory;
  std::optional<FileService> files;
  std::optional<Serving> serving;
};

} // namespace

TEST_CASE_FIXTURE(FilesTest, "a file is sent with what caches need to know, and HEAD is the same without it") {
  put("a.html", "<p>hello");
  disk.makeDirectory("sub");
  put("sub/b c.png", "\x89PNG");
  put("empty", "");
  const Reply reply = get("/a.html");
  CHECK(reply.status == 200);
  CHECK(reply.body == "<p>hello");
  CHECK(reply.field("Content-Length") == "8");
  CHECK(reply.field("Content-Type") == "text/html; charset=utf-8");
  CHECK(reply.field("Accept-Ranges") == "bytes");
  CHECK(reply.field("Vary") == "Accept-Encoding");
  CHECK(reply.field("Last-Modified").ends_with(" GMT"));
  CHECK(reply.field("ETag").starts_with("\"8-"));
  CHECK(reply.field("Cache-Control") == "");
  const Reply head = serving->send("HEAD", "/a.html");
  CHECK(head.status == 200);
  CHECK(head.body.empty());
  for (std::string_view name : {"Content-Length", "Content-Type", "ETag", "Last-Modified", "Vary", "Accept-Ranges"})
    CHECK(head.field(name) == reply.field(name));
  const Reply image = get("/sub/b%20c.png");
  CHECK(image.body == "\x89PNG");
  CHECK(image.field("Content-Type") == "image/png");
  CHECK(image.field("Vary") == "");
  const Reply empty = get("/empty");
  CHECK(empty.status == 200);
  CHECK(empty.field("Content-Length") == "0");
  const Reply post = serving->send("POST", "/a.html");
  CHECK(post.status == 405);
  CHECK(post.field("Allow") == "GET, HEAD");
  serve({.cacheControl = "max-age=60", .contentType = [](std::string_view name) {
           CHECK(name == "b c.png");
           return std::string_view("image/x-mine");
         }});
  CHECK(get("/sub/b%20c.png").field("Cache-Control") == "max-age=60");
  CHECK(get("/sub/b%20c.png").field("Content-Type") == "image/x-mine");
}

TEST_CASE_FIXTURE(FilesTest, "no path leads out of the directory, to what is hidden or to what is no file") {
  put("a", "contents");
  put(".hidden", "hidden");
  disk.makeDirectory(".git");
  put(".git/config", "hidden");
  disk.link("../secret", "out");
  disk.link("a", "in");
  disk.link("loop", "loop");
  REQUIRE(::mkfifo(disk.inside("fifo").c_str(), 0600) == 0);
  struct Row {
    std::string_view path;
    int status;
  };
  for (const Row& row :
       {Row{"/a", 200}, {"/./a", 200}, {"/x/../a", 200}, {"/%61", 200}, {"//a", 200}, {"/../a", 200}, {"/in", 200},
        {"/none", 404}, {"/a/", 404}, {"/a/b", 404}, {"/../secret", 404}, {"/%2e%2e/secret", 404},
        {"/..%2fsecret", 404}, {"/%2e%2e%2fsecret", 404}, {"/x%2f..%2f..%2fsecret", 404}, {"/%2fetc%2fpasswd", 404},
        {"//etc/passwd", 404}, {"/..\\secret", 404}, {"/a%00", 404}, {"/a%00.html", 404}, {"/.hidden", 404},
        {"/%2ehidden", 404}, {"/.git/config", 404}, {"/x/%2egit/config", 404}, {"/out", 404}, {"/loop", 404}, {"/fifo", 404},
        {"/a%", 400}, {"/%g0", 400}}) {
    CAPTURE(row.path);
    const Reply reply = get(row.path);
    CHECK(reply.status == row.status);
    CHECK(!contains(reply.body, "secret"));
    if (reply.status == 200) CHECK(reply.body == "contents");
  }
  CHECK(get("/" + std::string(300, 'x')).status == 404);
  std::string deep;
  for (int i = 0; i < 50; ++i) deep += "/" + std::string(100, 'x');
  CHECK(get(deep).status == 404);
  // It is short enough itself, and with the name of the index it is not.
  deep.resize(4090);
  CHECK(get(deep).status == 404);
  CHECK(get(deep + "/").status == 404);
  serve({.hidden = FileSettings::Hidden::SERVE});
  CHECK(get("/.git/config").body == "hidden");
  CHECK(get("/x/../../secret").status == 404);
}

TEST_CASE_FIXTURE(FilesTest, "a directory is its index, and is sent to the path with the slash") {
  put("index.html", "top");
  disk.makeDirectory("sub dir/empty");
  put("sub dir/index.html", "sub");
  disk.makeDirectory("index.d");
  Router router;
  files.emplace(*directory);
  router.mount("/static", *files);
  serving.emplace(router, scope);
  CHECK(get("/static/").body == "top");
  CHECK(get("/static/sub%20dir/").body == "sub");
  const auto location = [&](std::string_view path) {
    const Reply reply = get(path);
    CHECK(reply.status == 308);
    return reply.field("Location");
  };
  CHECK(location("/static") == "/static/");
  CHECK(location("/static?a=b&c") == "/static/?a=b&c");
  CHECK(location("/static/sub%20dir") == "/static/sub%20dir/");
  CHECK(location("/static/x/../sub%20dir/empty") == "/static/sub%20dir/empty/");
  CHECK(get("/static/sub%20dir/empty/").status == 404);
  CHECK(get("/static/none/").status == 404);
  CHECK(get("/static/sub%20dir/..").body == "top");
  CHECK(get("/static/sub%20dir/.").body == "sub");
  // "//sub dir/" would be another host.
  serve();
  CHECK(location("//sub%20dir") == "/sub%20dir/");
  CHECK(location("/.//sub%20dir") == "/sub%20dir/");
  // So would "/\\sub/" be to a browser.
  disk.makeDirectory("\\sub");
  CHECK(location("/\\sub") == "/%5Csub/");
  serve({.index = "index.d"});
  CHECK(get("/").status == 404);
  serve({.index = ""});
  CHECK(get("/").status == 404);
  CHECK(get("/sub%20dir").status == 404);
  CHECK_THROWS_AS(FileService(*directory, {.index = "../x"}), Exception);
  CHECK_THROWS_AS(FileService(*directory, {.index = "."}), Exception);
}

TEST_CASE_FIXTURE(FilesTest, "conditions are met by 304 and 412") {
  put("a.txt", "contents");
  const Reply first = get("/a.txt");
  const std::string etag = first.field("ETag"), modified = first.field("Last-Modified");
  const Reply same = get("/a.txt", "If-None-Match: \"x\", W/" + etag + "\r\n");
  CHECK(same.status == 304);
  CHECK(same.body.empty());
  CHECK(same.field("ETag") == etag);
  CHECK(same.field("Vary") == "Accept-Encoding");
  CHECK(same.field("Content-Type") == "");
  CHECK(get("/a.txt", "If-None-Match: \"x\"\r\n").status == 200);
  CHECK(get("/a.txt", "If-Modified-Since: " + modified + "\r\n").status == 304);
  CHECK(get("/a.txt", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n").status == 200);
  CHECK(get("/a.txt", "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n").status == 412);
  CHECK(get("/a.txt", "If-Match: " + etag + "\r\n").status == 200);
  CHECK(get("/a.txt", "If-Match: \"x\"\r\n").status == 412);
  CHECK(serving->send("HEAD", "/a.txt", "If-None-Match: " + etag + "\r\n").status == 304);
  put("a.txt", "Contents", seconds(3000));
  CHECK(get("/a.txt", "If-None-Match: " + etag + "\r\n").status == 200);
  put("a.txt", "contents", seconds(-10));
  CHECK(get("/a.txt").field("ETag").starts_with("W/\"8-")); // it may change within the same tick
  put("a.txt", "contents", days(365 * 70)); // before 1970
  CHECK(get("/a.txt").field("Last-Modified") == "");
  put("a.txt", "contents", seconds(-3600));
  CHECK(get("/a.txt").field("Last-Modified") == get("/a.txt").field("Date")); // no later than now
}

TEST_CASE_FIXTURE(FilesTest, "ranges are sent by themselves or together, and never more than there is") {
  put("a.bin", "0123456789");
  const auto range = [&](std::string_view value, std::string_view more = "") {
    return get("/a.bin", "Range: " + std::string(value) + "\r\n" + std::string(more));
  };
  const Reply one = range("bytes=2-4");
  CHECK(one.status == 206);
  CHECK(one.body == "234");
  CHECK(one.field("Content-Range") == "bytes 2-4/10");
  CHECK(one.field("Content-Length") == "3");
  CHECK(range("bytes=-3").body == "789");
  CHECK(range("bytes=7-100").field("Content-Range") == "bytes 7-9/10");
  CHECK(range("bytes=5-4").status == 200);
  CHECK(range("lines=1-2").status == 200);
  const Reply none = range("bytes=10-");
  CHECK(none.status == 416);
  CHECK(none.field("Content-Range") == "bytes */10");
  CHECK(none.field("ETag") == "");
  CHECK(none.field("Content-Type") == "text/plain");

  const Reply two = range("bytes=8-, 0-1");
  CHECK(two.status == 206);
  const std::string type = two.field("Content-Type");
  REQUIRE(type.starts_with("multipart/byteranges; boundary="));
  const std::string dash = "--" + type.substr(type.find('=') + 1);
  const std::string octets = "\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes ";
  const std::size_t start = two.body.find(dash);
  REQUIRE(start != std::string::npos);
  CHECK(two.body.substr(start) ==
        dash + octets + "8-9/10\r\n\r\n89\r\n" + dash + octets + "0-1/10\r\n\r\n01\r\n" + dash + "--\r\n");
  CHECK(two.field("Content-Range") == "");
  CHECK(two.field("Content-Length") == std::to_string(two.body.size()));

  std::string many = "bytes=0-0";
  for (int i = 0; i < 1000; ++i) many += ",0-9";
  CHECK(range(many).body == "0123456789");
  CHECK(range("bytes=0-5,5-9").body == "0123456789");
  const std::string etag = one.field("ETag");
  CHECK(range("bytes=2-4", "If-Range: " + etag + "\r\n").status == 206);
  CHECK(range("bytes=2-4", "If-Range: \"x\"\r\n").body == "0123456789");
  CHECK(range("bytes=2-4", "If-Range: " + one.field("Last-Modified") + "\r\n").status == 206);
  CHECK(serving->send("HEAD", "/a.bin", "Range: bytes=2-4\r\n").status == 200);
  put("a.bin", "0123456789", seconds(-3600)); // as new as can be, however slow the machine is
  const Reply fresh = get("/a.bin");
  CHECK(range("bytes=2-4", "If-Range: " + fresh.field("ETag") + "\r\n").status == 200); // weak
  CHECK(range("bytes=2-4", "If-Range: " + fresh.field("Last-Modified") + "\r\n").status == 200); // as weak as that
}

TEST_CASE_FIXTURE(FilesTest, "large files, and ranges of them, are streamed") {
  std::string contents;
  for (int i = 0; contents.size() < 300'000; ++i) contents += std::to_string(i) + ",";
  put("large.txt", contents);
  const Reply reply = get("/large.txt");
  CHECK(reply.field("Content-Length") == std::to_string(contents.size()));
  CHECK((reply.body == contents));
  const Reply part = get("/large.txt", "Range: bytes=100000-299999\r\n");
  CHECK(part.status == 206);
  CHECK((part.body == contents.substr(100'000, 200'000)));
  CHECK(serving->send("HEAD", "/large.txt").body.empty());
}

TEST_CASE_FIXTURE(FilesTest, "a compressed sibling is sent to those who take it") {
  put("a.css", "plain plain plain");
  put("a.css.gz", "gzipped");
  put("a.css.br", "brotlied");
  put("b.js", "plain");
  put("b.js.gz", "old", seconds(7200)); // made of what b.js was before
  put("c.png", "plain");
  put("c.png.gz", "not for images");
  put("a.css.gz.gz", "not asked for");
  const Reply br = get("/a.css", "Accept-Encoding: gzip, br\r\n");
  CHECK(br.body == "brotlied");
  CHECK(br.field("Content-Encoding") == "br");
  CHECK(br.field("Content-Type") == "text/css; charset=utf-8");
  CHECK(br.field("Vary") == "Accept-Encoding");
  const Reply gzip = get("/a.css", "Accept-Encoding: gzip, br;q=0\r\n");
  CHECK(gzip.body == "gzipped");
  CHECK(gzip.field("Content-Encoding") == "gzip");
  CHECK(get("/a.css", "Accept-Encoding: br;q=0.5, gzip\r\n").body == "gzipped");
  const Reply plain = get("/a.css");
  CHECK(plain.body == "plain plain plain");
  CHECK(plain.field("Content-Encoding") == "");
  CHECK(plain.field("Vary") == "Accept-Encoding");
  CHECK(get("/a.css", "Accept-Encoding: identity;q=0\r\n").body == "plain plain plain");
  CHECK(get("/a.css", "Accept-Encoding: gzip\r\nRange: bytes=0-3\r\n").body == "gzip");
  CHECK(plain.field("ETag") != gzip.field("ETag"));
  CHECK(br.field("ETag") != gzip.field("ETag"));
  CHECK(get("/a.css", "Accept-Encoding: gzip\r\nIf-None-Match: " + gzip.field("ETag") + "\r\n").status == 304);
  CHECK(get("/b.js", "Accept-Encoding: gzip, br\r\n").body == "plain");
  CHECK(get("/c.png", "Accept-Encoding: gzip\r\n").body == "plain");
  // The second choice is better than none, and one of the same time as new as the file.
  std::filesystem::last_write_time(disk.inside("b.js.gz"), std::filesystem::last_write_time(disk.inside("b.js")));
  CHECK(get("/b.js", "Accept-Encoding: gzip, br\r\n").body == "old");
  put("b.js", "new"); // of the same size, too
  std::filesystem::last_write_time(disk.inside("b.js.gz"), std::filesystem::last_write_time(disk.inside("b.js")));
  CHECK(get("/b.js", "Accept-Encoding: gzip\r\n").field("ETag") != get("/b.js").field("ETag"));
  CHECK(get("/a.css.gz", "Accept-Encoding: gzip\r\n").body == "gzipped");
  const std::string longest = std::string(251, 'x') + ".css"; // whose sibling would have no name
  put(longest, "plain");
  CHECK(get("/" + longest, "Accept-Encoding: gzip\r\n").body == "plain");
  serve({.precompressed = FileSettings::Precompressed::IGNORE});
  CHECK(get("/a.css", "Accept-Encoding: gzip\r\n").body == "plain plain plain");
  CHECK(get("/a.css", "Accept-Encoding: gzip\r\n").field("Vary") == "");
}

TEST_CASE_FIXTURE(FilesTest, "what may not be read is 403, and its compressed sibling as good as none") {
  put("a.css", "plain");
  put("a.css.br", "brotlied");
  put("a.css.gz", "gzipped");
  put("b.css", "plain");
  disk.makeDirectory("b.css.gz");
  put("secret.css", "hidden");
  put("secret.css.gz", "gzipped");
  for (std::string_view name : {"a.css.br", "a.css.gz", "secret.css"}) REQUIRE(::chmod(disk.inside(name).c_str(), 0) == 0);
  struct AsNobody { // for whom the modes count
    const bool isRoot = ::geteuid() == 0;
    AsNobody() { if (isRoot) REQUIRE(::seteuid(65'534) == 0); }
    ~AsNobody() { if (isRoot) CHECK(::seteuid(0) == 0); }
  } nobody;
  const Reply reply = get("/a.css", "Accept-Encoding: gzip, br\r\n");
  CHECK(reply.status == 200);
  CHECK(reply.body == "plain");
  CHECK(reply.field("Content-Encoding") == "");
  CHECK(get("/b.css", "Accept-Encoding: gzip\r\n").body == "plain");
  const Reply secret = get("/secret.css", "Accept-Encoding: gzip\r\n");
  CHECK(secret.status == 403);
  CHECK(!contains(secret.wire, "hidden"));
  CHECK(!contains(secret.wire, "gzipped"));
}

TEST_CASE_FIXTURE(FilesTest, "a part is one of what is sent, and several parts of what is coded are not") {
  put("a.css", "0123456789");
  put("a.css.gz", "abcdefghijkl");
  const std::string gzip = "Accept-Encoding: gzip\r\n";
  const std::string etag = get("/a.css", gzip).field("ETag"), plainTag = get("/a.css").field("ETag");
  const Reply one = get("/a.css", gzip + "Range: bytes=2-4\r\nIf-Range: " + etag + "\r\n");
  CHECK(one.status == 206);
  CHECK(one.body == "cde");
  CHECK(one.field("Content-Range") == "bytes 2-4/12");
  CHECK(one.field("Content-Encoding") == "gzip");
  CHECK(one.field("ETag") == etag);
  CHECK(get("/a.css", gzip + "Range: bytes=2-4\r\nIf-Range: " + plainTag + "\r\n").body == "abcdefghijkl");
  CHECK(get("/a.css", "Range: bytes=2-4\r\nIf-Range: " + etag + "\r\n").body == "0123456789");
  const Reply several = get("/a.css", gzip + "Range: bytes=0-1,4-5\r\n");
  CHECK(several.status == 200);
  CHECK(several.body == "abcdefghijkl");
  CHECK(get("/a.css", "Range: bytes=0-1,4-5\r\n").status == 206);
  const Reply behind = get("/a.css", gzip + "Range: bytes=12-\r\n");
  CHECK(behind.status == 416);
  CHECK(behind.field("Content-Range") == "bytes */12");
  CHECK(behind.field("Content-Encoding") == "");
  CHECK(get("/a.css", gzip + "If-None-Match: " + etag + "\r\nRange: bytes=0-1\r\n").status == 304);
  CHECK(get("/a.css", gzip + "If-Match: " + plainTag + "\r\nRange: bytes=0-1\r\n").status == 412);
  const Reply head = serving->send("HEAD", "/a.css", gzip + "Range: bytes=0-1\r\n");
  CHECK(head.status == 200);
  CHECK(head.field("Content-Length") == "12");
  CHECK(head.field("Content-Encoding") == "gzip");
  CHECK(get("/a.css", "Range: bytes=0-1\r\nRange: bytes=4-5\r\n").body == "0123456789");
}

TEST_CASE_FIXTURE(FilesTest, "what is no file is 404 at once, for GET and HEAD, also where a compressed sibling should be") {
  REQUIRE(::mkfifo(disk.inside("fifo").c_str(), 0600) == 0);
  put("a.css", "plain");
  REQUIRE(::mkfifo(disk.inside("a.css.gz").c_str(), 0600) == 0);
  disk.link("/dev/zero", "a.css.br");
  disk.link("/dev/zero", "linked");
  disk.link("..", "up");
  disk.link("/", "whole");
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  disk.inside("socket").copy(address.sun_path, sizeof address.sun_path - 1);
  REQUIRE(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  serve();
  // Not everybody may make one.
  const bool hasDevice = ::mknod(disk.inside("zero").c_str(), S_IFCHR | 0600, ::makedev(1, 5)) == 0;
  for (std::string_view path : {"/fifo", "/socket", "/linked", "/up/secret", "/up/", "/whole/etc/passwd", "/zero"}) {
    CAPTURE(path);
    if (path == "/zero" && !hasDevice) continue;
    for (std::string_view method : {"GET", "HEAD"}) CHECK(serving->send(method, path).status == 404);
  }
  CHECK(get("/a.css", "Accept-Encoding: gzip, br\r\n").body == "plain");
  ::close(fd);
}

TEST_CASE_FIXTURE(FilesTest, "a file that is changed while it is sent") {
  const std::string contents(1'000'000, 'a');
  put("large.bin", contents);
  serve();
  const std::unique_ptr<AsyncIoStream> client = serving->connect();
  client->write("GET /large.bin HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").wait(scope);
  std::string got(1000, '.');
  client->read(std::as_writable_bytes(std::span(got))).wait(scope);
  const auto rest = [&] { return client->readAllText(2'000'000).wait(scope); };
  const std::string_view sent = std::string_view(got).substr(got.find("\r\n\r\n") + 4);
  SUBCASE("becomes shorter: the connection breaks, so that nobody takes a part for the whole") {
    std::filesystem::resize_file(disk.inside("large.bin"), 300'000);
    CHECK((thrownBy(rest).kind() == Exception::Kind::DISCONNECTED));
    CHECK(contains(serving->failures, "became shorter"));
    serving->failures.clear();
  }
  SUBCASE("becomes longer: it is sent as long as it was") {
    std::filesystem::resize_file(disk.inside("large.bin"), 1'500'000);
    CHECK((std::string(sent) + rest() == contents));
  }
  SUBCASE("is replaced: it is sent as it was") {
    directory->replaceFile(Path::parse("large.bin"), std::string(1'000'000, 'b')).wait(scope);
    CHECK((std::string(sent) + rest() == contents));
    CHECK((get("/large.bin").body == std::string(1'000'000, 'b')));
  }
  SUBCASE("is removed: it is sent as it was") {
    std::filesystem::remove(disk.inside("large.bin"));
    CHECK((std::string(sent) + rest() == contents));
    CHECK(get("/large.bin").status == 404);
  }
}

TEST_CASE_FIXTURE(FilesTest, "a small file that becomes shorter before it was read is the server's fault") {
  put("small.bin", "0123456789");
  serve({.contentType = [&](std::string_view) { // which is asked for in between
           std::filesystem::resize_file(disk.inside("small.bin"), 5);
           return std::string_view("image/x-mine");
         }});
  const Reply reply = get("/small.bin");
  CHECK(reply.status == 500);
  CHECK(!contains(reply.body, "01234"));
  CHECK(contains(serving->failures, "became shorter"));
  serving->failures.clear();
}

TEST_CASE_FIXTURE(FilesTest, "a handler sends one file") {
  put("a.txt", "contents");
  Router router;
  router.any("/{name}", [&](Request& request, Response& response) {
    response.headers().set("X-Mine", "stays");
    return sendFile(request, response, *directory, Path::parse(request.parameter("name")));
  });
  serving.emplace(router, scope);
  const Reply reply = get("/a.txt");
  CHECK(reply.body == "contents");
  CHECK(reply.field("X-Mine") == "stays");
  CHECK(get("/none").status == 404);
  CHECK(serving->send("PUT", "/a.txt").status == 405);
}

TEST_CASE("sweep: sending a file can be cancelled anywhere") {
  const auto steps = cancelSweep(std::function<Promise<void>(IoTest&)>([](IoTest& test) -> Promise<void> {
    struct World : TaskSet::ErrorHandler {
      TemporaryDirectory disk;
      ManualTimer timer;
      std::unique_ptr<Directory> directory;
      std::optional<FileService> files;
      std::optional<Server> server;
      std::unique_ptr<AsyncIoStream> client;
      void taskFailed(Exception) override {}
    };
    auto world = std::make_unique<World>();
    world->disk.write("a.txt", std::string(100'000, 'x'));
    world->disk.write("a.txt.gz", "old");
    std::filesystem::last_write_time(world->disk.inside("a.txt.gz"),
                                     std::filesystem::file_time_type::clock::now() - seconds(3600));
    world->directory = co_await openDirectory(test.io, world->disk.inside());
    world->files.emplace(*world->directory);
    world->server.emplace(*world->files, world->timer, *world);
    TwoWayPipe pipe = newTwoWayPipe();
    world->server->serveConnection(std::move(pipe.ends[0]));
    world->client = std::move(pipe.ends[1]);
    co_await world->client->write("GET /a.txt HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n"
                                  "Range: bytes=1-2,70000-\r\nConnection: close\r\n\r\n");
    const std::string reply = co_await world->client->readAllText(1'000'000);
    CHECK(reply.starts_with("HTTP/1.1 206 "));
    CHECK(reply.size() > 30'000);
  }));
  CHECK(steps > 8);
}

TEST_CASE("types are known by the end of a name, and the compressible ones among them") {
  struct Row {
    std::string_view name, type;
  };
  for (const Row& row : {Row{"a.html", "text/html; charset=utf-8"}, {"A.HTML", "text/html; charset=utf-8"},
                         {"a.tar.gz", "application/gzip"}, {"a.7z", "application/x-7z-compressed"},
                         {"a.zip", "application/zip"}, {"a.webmanifest", "application/manifest+json"},
                         {"a.webmanifests", "application/octet-stream"}, {"html", "application/octet-stream"},
                         {"a.", "application/octet-stream"}, {".html", "text/html; charset=utf-8"},
                         {"a.\xff", "application/octet-stream"}, {"", "application/octet-stream"}})
    CHECK_MESSAGE(contentTypeOf(row.name) == row.type, row.name);
  for (std::string_view type : {"text/html; charset=utf-8", "TEXT/plain", "application/json", "image/svg+xml",
                                "application/ld+json;x=y", "application/wasm"})
    CHECK_MESSAGE(isCompressible(type), type);
  for (std::string_view type : {"", "image/png", "video/mp4", "text/event-stream", "application/gzip",
                                "application/octet-stream", "application/jsonx", "+", "tex"})
    CHECK_MESSAGE(!isCompressible(type), type);
}
