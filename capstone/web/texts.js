// What the page says, in both languages. Elements name their text with data-text (or data-placeholder).
const TEXTS = {
  en: {
    skip: "Skip to the question", menu: "Documents and conversations", language: "Language", documents: "Documents",
    upload: "Choose files, or drop them here", conversations: "Conversations", new: "New conversation", question: "Your question",
    placeholder: "Ask your documents …", send: "Ask", stop: "Stop", close: "Close", login: "Your API key", login_go: "Go on",
    login_why: "This page is not on the assistant's own machine. Paste a key from `assistant keys add`.",
    you: "You", assistant: "Assistant", sources: "Sources", page: "page", thinking: "Looking into your documents …",
    stopped: "(stopped)", cut: "(cut off)", remove: "Delete", sure: "Delete “{name}”? It can't be brought back.",
    received: "being read", searchable: "found by words; by meaning {percent} %", ready: "ready, {pages} pages", ready_one: "ready, 1 page", failed: "could not be read",
    uploading: "uploading {percent} %", no_documents: "No document yet.", no_conversations: "No conversation yet.",
    welcome: "Drop a PDF, Word, Markdown, HTML or text file on this page, then ask a question about it. Every answer names the page that it comes from.",
    offline: "The assistant can't be reached. Is it running?", flagged: "holds hidden text, which is never followed",
    untitled: "Untitled", hidden: "hidden in the document",
  },
  vi: {
    skip: "Đến ô câu hỏi", menu: "Tài liệu và hội thoại", language: "Ngôn ngữ", documents: "Tài liệu",
    upload: "Chọn tệp hoặc thả vào đây", conversations: "Hội thoại", new: "Hội thoại mới", question: "Câu hỏi của bạn",
    placeholder: "Hỏi tài liệu của bạn …", send: "Hỏi", stop: "Dừng", close: "Đóng", login: "Khóa API của bạn", login_go: "Tiếp tục",
    login_why: "Trang này không nằm trên máy của trợ lý. Hãy dán khóa tạo bằng `assistant keys add`.",
    you: "Bạn", assistant: "Trợ lý", sources: "Nguồn", page: "trang", thinking: "Đang tra cứu tài liệu của bạn …",
    stopped: "(đã dừng)", cut: "(bị ngắt)", remove: "Xóa", sure: "Xóa “{name}”? Không thể khôi phục.",
    received: "đang đọc", searchable: "tìm được theo từ; theo nghĩa {percent} %", ready: "sẵn sàng, {pages} trang", ready_one: "sẵn sàng, 1 trang", failed: "không đọc được",
    uploading: "đang tải lên {percent} %", no_documents: "Chưa có tài liệu.", no_conversations: "Chưa có hội thoại.",
    welcome: "Thả tệp PDF, Word, Markdown, HTML hoặc văn bản vào trang này rồi đặt câu hỏi. Mỗi câu trả lời đều nêu trang mà nó dựa vào.",
    offline: "Không kết nối được với trợ lý. Dịch vụ có đang chạy không?", flagged: "có văn bản ẩn, sẽ không được làm theo",
    untitled: "Chưa đặt tên", hidden: "bị ẩn trong tài liệu",
  },
};

let current = localStorage.getItem("language") || (navigator.language.startsWith("vi") ? "vi" : "en");

export function text(name, values = {}) {
  return TEXTS[current][name].replace(/\{(\w+)\}/g, (_, key) => values[key]);
}

export function language() {
  return current;
}

export function speak(chosen) {
  current = chosen in TEXTS ? chosen : "en";
  localStorage.setItem("language", current);
  document.documentElement.lang = current;
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = text(element.dataset.text);
  for (const element of document.querySelectorAll("[data-placeholder]")) element.placeholder = text(element.dataset.placeholder);
}
