// SPDX-License-Identifier: MIT
// Routes: which one a path leads to, what is refused, and what a service that is mounted sees.
#include "serving.h"

#include <troth/net/http/http_error.h>
#include <troth/net/http/router.h>

using namespace troth;
using namespace troth::http;
using namespace troth::test;

namespace {

// Says which route it is, and the values of these parameters.
auto saying(std::string name, std::vector<std::string> parameters = {}) {
  return [name, parameters](Request& request, Response& response) -> Promise<void> {
    std::string text = name;
    for (const std::string& parameter : parameters)
      text.append(" ").append(parameter).append("=").append(request.parameter(parameter));
    return response.send(200, std::move(text));
  };
}

// The body of a 200; else the status.
std::string answer(Serving& serving, std::string_view path, std::string_view method = "GET") {
  const Reply reply = serving.send(method, path);
  return reply.status == 200 ? reply.body : std::to_string(reply.status);
}

struct Row {
  std::string_view path, answer;
};

} // namespace

TEST_CASE_FIXTURE(LoopTest, "a path leads to the text before the parameter, and to that before the rest") {
  Router router;
  router.get("/", saying("root"))
      .get("/users", saying("users"))
      .get("/users/", saying("slash"))
      .get("/users/me", saying("me"))
      .get("/users/{id}", saying("user", {"id"}))
      .get("/users/{user}/posts/{post}", saying("post", {"user", "post"}))
      .get("/users/me/settings", saying("settings"))
      .get("/files/{path...}", saying("file", {"path"}))
      .get("/files/special", saying("special"))
      .get("/{any...}", saying("rest", {"any"}));
  Serving serving(router, scope);
  for (const Row& row : {Row{"/", "root"}, {"/users", "users"}, {"/users/", "slash"}, {"/users/me", "me"},
                         {"/users/7", "user id=7"}, {"/users/7/posts/8", "post user=7 post=8"},
                         {"/users/me/settings", "settings"},
                         // Where the text leads nowhere, the parameter does.
                         {"/users/me/posts/1", "post user=me post=1"},
                         {"/users/me/posts", "rest any=users/me/posts"},
                         {"/files/", "file path="}, {"/files/a/b//c", "file path=a/b//c"}, {"/files/special", "special"},
                         {"/files/special/", "file path=special/"}, {"/files", "rest any=files"},
                         {"/users//posts/1", "rest any=users//posts/1"}, // a parameter is not empty
                         {"/USERS", "rest any=USERS"}, {"//", "rest any=/"}, {"/users/7?x=/y", "user id=7"}}) {
    CAPTURE(row.path);
    CHECK(answer(serving, row.path) == row.answer);
  }
}

TEST_CASE_FIXTURE(LoopTest, "paths are compared in their normal form, and cut before they are decoded") {
  Router router;
  router.get("/a b/\xc3\xa4", saying("text"))
      .get("/a/{x}", saying("parameter", {"x"}))
      .get("/rest/{x...}", saying("rest", {"x"}))
      .get("/admin", saying("admin"));
  Serving serving(router, scope);
  for (const Row& row :
       {Row{"/a%20b/%C3%a4", "text"}, {"/a/%2F", "parameter x=/"}, {"/a/b%2fc", "parameter x=b/c"},
        {"/a/%41%2e%7e", "parameter x=A.~"}, {"/a/%25", "parameter x=%"}, {"/%61/b", "parameter x=b"}, {"/a/b/c", "404"},
        {"/a/./b", "parameter x=b"}, {"/a/c/../b", "parameter x=b"}, {"/a/%2e%2E/admin", "admin"},
        {"/../../admin", "admin"}, {"/./admin", "admin"}, {"/x/../admin", "admin"}, {"/admin/.", "404"},
        {"/a/..", "404"}, {"/rest/a%2Fb/c%20d", "rest x=a/b/c d"}, {"/a/%", "400"}, {"/a/%zz", "400"},
        {"/a/%2", "400"}, {"/a/...", "parameter x=..."}}) {
    CAPTURE(row.path);
    CHECK(answer(serving, row.path) == row.answer);
  }
  CHECK(answer(serving, "/a/x%00y") == std::string("parameter x=x\0y", 15));
}

TEST_CASE_FIXTURE(LoopTest, "a method without a route is 405 and told which there are; HEAD is what GET is") {
  Router router;
  router.get("/a", saying("get")).post("/a", saying("post")).handle("PROPFIND", "/a", saying("propfind"));
  router.delete_("/{x}", saying("delete", {"x"})).put("/only", saying("put")).any("/any", saying("any"));
  router.post("/any", saying("own")).handle(Method::HEAD, "/head", [](Request&, Response& response) {
    response.headers().set("X-Head", "own");
    return response.send(200);
  });
  router.get("/head", saying("get"));
  ServerSettings settings;
  settings.unknownMethods = ServerSettings::UnknownMethods::PASS;
  Serving serving(router, scope, settings);
  CHECK(answer(serving, "/a", "POST") == "post");
  CHECK(answer(serving, "/a", "PROPFIND") == "propfind");
  CHECK(answer(serving, "/a", "DELETE") == "delete x=a"); // "/a" has none, but "/{x}" has
  CHECK(answer(serving, "/any", "PATCH") == "any");
  CHECK(answer(serving, "/any", "LOCK") == "any");
  CHECK(answer(serving, "/any", "POST") == "own");
  const Reply head = serving.send("HEAD", "/a");
  CHECK(head.status == 200);
  CHECK(head.field("Content-Length") == "3");
  CHECK(head.body.empty());
  CHECK(serving.send("HEAD", "/head").field("X-Head") == "own");

  const Reply refused = serving.send("PATCH", "/a");
  CHECK(refused.status == 405);
  CHECK(refused.field("Allow") == "GET, HEAD, POST, PROPFIND, DELETE");
  CHECK(refused.body == "405 Method Not Allowed\n");
  CHECK(serving.get("/only").field("Allow") == "PUT, DELETE");
  CHECK(answer(serving, "/a", "propfind") == "405");
  CHECK(answer(serving, "/a", "OPTIONS") == "405");
  CHECK(answer(serving, "/none/at/all", "OPTIONS") == "404");
  CHECK(answer(serving, "a:1", "CONNECT") == "501");
  CHECK(answer(serving, "*", "OPTIONS") == "404");
}

TEST_CASE_FIXTURE(LoopTest, "OPTIONS is answered if that is wanted") {
  Router router({.options = RouterSettings::Options::ANSWER});
  router.get("/a", saying("get")).handle(Method::OPTIONS, "/own", saying("own"));
  Serving serving(router, scope);
  const Reply reply = serving.send("OPTIONS", "/a");
  CHECK(reply.status == 204);
  CHECK(reply.field("Allow") == "GET, HEAD, OPTIONS");
  CHECK(serving.send("POST", "/a").field("Allow") == "GET, HEAD, OPTIONS");
  CHECK(answer(serving, "/own", "OPTIONS") == "own");
  CHECK(serving.send("OPTIONS", "*").status == 204);
  CHECK(answer(serving, "/none", "OPTIONS") == "404");
}

TEST_CASE_FIXTURE(LoopTest, "what is mounted sees the path beneath, and the parameters in front of it") {
  Router inner, users, router;
  const auto sayPath = [](Request& request, Response& response) {
    return response.send(200, "[" + std::string(mountedPath(request)) + "]");
  };
  inner.get("/", saying("inner")).get("/x/{y}", saying("x", {"y"})).any("/path/{rest...}", sayPath);
  users.get("/posts/{post}", saying("post", {"user", "post"})).mount("/deep", inner);
  router.mount("/inner", inner).mount("/users/{user}/", users).get("/inner/own", saying("own"));
  router.mount("/raw", newService(sayPath));
  router.get("/way/{a}/{b}/no", saying("no")).mount("/{way}/z/v", newService(sayPath));
  Serving serving(router, scope);
  for (const Row& row : {Row{"/inner", "inner"}, {"/inner/", "inner"}, {"/inner/x/a%2Fb", "x y=a/b"}, {"/inner/own", "own"},
                         {"/inner/none", "404"}, {"/innermost", "404"}, {"/inner/x/../x/1", "x y=1"},
                         {"/users/a-rather-long-name-of-a-user/posts/another-rather-long-name",
                          "post user=a-rather-long-name-of-a-user post=another-rather-long-name"},
                         {"/users/u/deep/x/2", "x y=2"}, {"/users/u/deep", "inner"}, {"/users/u/deep/path/a", "[/path/a]"},
                         {"/users//deep", "404"}, {"/raw", "[/]"}, {"/raw/", "[/]"}, {"/raw/a%2fb/", "[/a%2Fb/]"},
                         {"/raw/../inner", "inner"}, {"/inner/x/%2e%2E/%2E./raw/a", "[/a]"},
                         // What was found on a way that led nowhere is forgotten.
                         {"/way/z/v", "[/]"}}) {
    CAPTURE(row.path);
    CHECK(answer(serving, row.path) == row.answer);
  }
  Router all;
  all.mount("/", router).get("/raw/first", saying("first"));
  Serving servingAll(all, scope);
  CHECK(answer(servingAll, "/inner/x/1") == "x y=1");
  CHECK(answer(servingAll, "/raw/first") == "first");
  CHECK(serving.send("POST", "/inner/x/1").field("Allow") == "GET, HEAD");
}

TEST_CASE("routes that make no sense are refused where they are made") {
  Router router;
  router.get("/users/{id}", saying("")).any("/any/{x...}", saying("")).mount("/files", router);
  const auto refused = [&](const std::function<void()>& call, std::string_view text) {
    const Exception e = thrownBy(call);
    INFO(e.description());
    CHECK(contains(e.description(), text));
    CHECK(contains(e.where().file_name(), "router_test"));
  };
  const auto get = [&](std::string_view pattern) { return [&router, pattern] { router.get(pattern, saying("")); }; };
  refused(get("users"), "the pattern \"users\" does not begin with a slash");
  refused(get(""), "does not begin with a slash");
  refused(get("/a%20b"), "in plain text");
  refused(get("/a?b"), "in plain text");
  refused(get("/{a}x"), "not a whole segment");
  refused(get("/x{a}"), "not a whole segment");
  refused(get("/{a"), "not a whole segment");
  refused(get("/{}"), "whose name is not one");
  refused(get("/{a b}"), "whose name is not one");
  refused(get("/{a..}"), "whose name is not one");
  refused(get("/{{a}}"), "whose name is not one");
  refused(get("/{a}/{a}"), "two parameters of the same name");
  refused(get("/{a...}/b"), "goes on behind what is all the rest");
  refused(get("/a/../b"), "a segment that no path has");
  refused(get("/{1}/{2}/{3}/{4}/{5}/{6}/{7}/{8}/{9}/{10}/{11}/{12}/{13}/{14}/{15}/{16}/{17}"), "more than 16 parameters");
  refused([&] { router.get(std::string(300, '/'), saying("")); }, "more than 256 segments");
  refused(get("/users/{name}"), "GET \"/users/{name}\" has a handler already, that of GET \"/users/{id}\" from ");
  refused([&] { router.any("/any/{y...}", saying("")); }, "any method \"/any/{y...}\" has a handler already");
  refused([&] { router.any("/files/{y...}", saying("")); }, "that of any method \"/files\"");
  refused([&] { router.mount("/x/{y...}", router); }, "which is what is mounted there");
  refused([&] { router.handle("NO METHOD", "/", saying("")); }, "\"NO METHOD\" is no method");
  refused([&] { router.get("/null", std::unique_ptr<Service>()); }, "is null");
  router.post("/users/{id}", saying("")).any("/users/{name}", saying("")); // these are other methods
  router.get("/{1}/{2}/{3}/{4}/{5}/{6}/{7}/{8}/{9}/{10}/{11}/{12}/{13}/{14}/{15}/{16}", saying(""));
}

TEST_CASE_FIXTURE(LoopTest, "a handler may fail by itself, and routes may be added while others are served") {
  Router router;
  router.get("/fails", [](Request&, Response&) -> Promise<void> { throw HttpError(418, "a teapot"); });
  router.get("/adds", [&](Request&, Response& response) {
    router.get("/added", saying("added"));
    return response.send(200, "adding");
  });
  Serving serving(router, scope);
  CHECK(answer(serving, "/fails") == "418");
  CHECK(answer(serving, "/added") == "404");
  CHECK(answer(serving, "/adds") == "adding");
  CHECK(answer(serving, "/added") == "added");
}

TEST_CASE_FIXTURE(LoopTest, "paths that look like many routes take no more time than there are routes") {
  // At each of 30 segments there are two ways; only the last segment tells that none leads anywhere.
  Router router;
  std::string parameters, texts;
  for (int i = 0; i < 15; ++i) parameters.append("/{p").append(std::to_string(i)).append("}");
  for (int i = 0; i < 15; ++i) texts += "/a";
  router.get(texts + parameters + "/end", saying("one")).get(parameters + texts + "/end", saying("two"));
  for (int i = 0; i < 1000; ++i) router.get("/n" + std::to_string(i), saying(std::to_string(i)));
  Serving serving(router, scope);
  std::string path;
  for (int i = 0; i < 30; ++i) path += "/a";
  CHECK(answer(serving, path + "/end") == "one");
  CHECK(answer(serving, path + "/no") == "404");
  CHECK(answer(serving, std::string(8000, '/')) == "404");
  CHECK(answer(serving, "/n777") == "777");
}
