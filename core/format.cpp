// The compiled part of fmt, once. LibTorch's include folder holds headers of fmt that come before the system's, so the
// system's library does not match them; fmt's header-only mode would, but it costs five seconds in every file.
#ifdef FMT_HEADER_ONLY
#error "equisweep compiles fmt itself"
#endif
#include <fmt/format-inl.h>

FMT_BEGIN_NAMESPACE
#if FMT_VERSION >= 120000
template locale_ref::locale_ref(const std::locale& loc);
template auto locale_ref::get<std::locale>() const -> std::locale;
#else
template detail::locale_ref::locale_ref(const std::locale& loc);
template auto detail::locale_ref::get<std::locale>() const -> std::locale;
#endif
namespace detail {
template auto dragonbox::to_decimal(float x) noexcept -> dragonbox::decimal_fp<float>;
template auto dragonbox::to_decimal(double x) noexcept -> dragonbox::decimal_fp<double>;
template auto thousands_sep_impl(locale_ref) -> thousands_sep_result<char>;
template auto decimal_point_impl(locale_ref) -> char;
template void buffer<char>::append(const char*, const char*);
}  // namespace detail
FMT_END_NAMESPACE
