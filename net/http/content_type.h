// SPDX-License-Identifier: MIT
// Media types of files by their names.
#pragma once

#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {

/// The value of a Content-Type field for a file of that name, by what is behind its last dot, in any case:
/// "text/html; charset=utf-8" for "index.html". Texts are taken for UTF-8. What is not known is
/// "application/octet-stream", which browsers store.
std::string_view contentTypeOf(std::string_view fileName) noexcept;

/// Whether content of this type, the value of a Content-Type field, is worth compressing: texts and what is like them,
/// not images, sound, video or archives, which are compressed already.
bool isCompressible(std::string_view contentType) noexcept;

} // namespace http
} // namespace v0
} // namespace troth
